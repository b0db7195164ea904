// The pages of messages and of mentions: they mark as read what was shown, and insert what arrives. Without JavaScript a
// button marks.

import { fetchPage, postForm, repeated } from "./page_requests.js";

const MOST = 200; // messages inserted into one page; after that a link leads to the others

/**
 * env: fetch, setTimeout, clearTimeout, DOMParser, IntersectionObserver, scrollBy.
 * page: merge(notifications) of an answer to a mark; inserted(element) for each message that was inserted.
 */
export class MessagesPage {
  #env;
  #document;
  #page;
  #list;
  #newest; // the timestamp of the newest message shown; NaN on a page of older messages
  #checkedUpTo; // there is no message between #newest and this timestamp
  #notifiedUpTo;
  #unmarked = []; // intervals that were shown and are not yet marked: [from, up to]
  #inserted = 0;
  #observer;
  #mark;
  #insertNews;

  constructor(env, document, page) {
    this.#env = env;
    this.#document = document;
    this.#page = page;
    this.#list = document.querySelector("#messages");
    this.#newest = parseFloat(this.#list.dataset.newest);
    this.#checkedUpTo = this.#notifiedUpTo = Number(document.body.dataset.since);
    this.#observer = new env.IntersectionObserver((entries) => this.#seen(entries));
    this.#mark = repeated(
      env,
      () => this.#visible && this.#unmarked.length > 0,
      () => this.#markFirst(),
    );
    this.#insertNews = repeated(
      env,
      () => this.#visible && this.#mayHaveNews,
      () => this.#fetchNews(),
    );
    const { from, up_to } = this.#form.elements;
    if (up_to) this.#unmarked.push([from.value, up_to.value]);
    for (const event of ["visibilitychange", "prerenderingchange"]) {
      document.addEventListener(event, () => this.#work());
    }
    this.#work();
  }

  /** A notification of the count with this timestamp: a message may have arrived, whether the count rose or not. */
  notified(count, timestamp) {
    if (!this.#list.isConnected) return; // the session has ended, and the page is about to be loaded again
    this.#notifiedUpTo = Math.max(this.#notifiedUpTo, timestamp);
    const form = this.#document.querySelector("#mark_all");
    form.elements.up_to.value = String(this.#notifiedUpTo);
    form.hidden = count === 0;
    this.#work();
  }

  /** The name of the notification that counts what this page lists. */
  get counted() {
    return this.#list.dataset.count ?? "unread_message_count";
  }

  get #form() {
    return this.#document.querySelector("#mark_read");
  }

  get #mayHaveNews() {
    return !Number.isNaN(this.#newest) && this.#notifiedUpTo > Math.max(this.#checkedUpTo, this.#newest);
  }

  /** Marks and inserts independently: a failed request of one does not delay the other. */
  #work() {
    this.#mark();
    this.#insertNews();
  }

  /** The list is removed when the session ends. */
  get #visible() {
    return this.#list.isConnected && this.#document.visibilityState === "visible" && !this.#document.prerendering;
  }

  async #fetchNews() {
    const notifiedUpTo = this.#notifiedUpTo;
    const page = await fetchPage(this.#env, `?after=${this.#newest}`, "#messages");
    const items = [...page.querySelectorAll("#messages > li")].map((item) => this.#document.importNode(item, true));
    if (items.length) this.#insert(items);
    if (!page.querySelector("[rel=prev]")) this.#checkedUpTo = notifiedUpTo; // else there are more
  }

  #insert(items) {
    this.#newest = Number(items[0].dataset.timestamp);
    const shown = this.#list.firstElementChild;
    const top = shown?.getBoundingClientRect().top;
    this.#list.prepend(...items);
    this.#document.querySelector("#no_messages")?.remove();
    for (const item of items) this.#page.inserted(item);
    // Keep the scroll position if the page is scrolled. Bootstrap's smooth scrolling would show the text moving.
    if (shown && this.#document.documentElement.scrollTop > 0) {
      this.#env.scrollBy({ top: shown.getBoundingClientRect().top - top, behavior: "instant" });
    }
    for (const item of items) this.#observer.observe(item);
    this.#inserted += items.length;
    if (this.#inserted < MOST) return;
    this.#newest = NaN;
    this.#document.querySelector("#more_messages").hidden = false;
  }

  /** What comes into view together is one interval: nothing between two visible messages is out of view. */
  #seen(entries) {
    const items = entries.filter(({ isIntersecting }) => isIntersecting).map(({ target }) => target);
    if (!items.length) return;
    for (const item of items) this.#observer.unobserve(item);
    const stamps = items.map((item) => item.dataset.timestamp).sort((one, other) => one - other);
    this.#unmarked.push([stamps[0], stamps.at(-1)]);
    this.#work();
  }

  async #markFirst() {
    const [from, up_to] = this.#unmarked[0];
    const notifications = await postForm(this.#env, this.#form, { from, up_to });
    this.#unmarked.shift();
    this.#document.querySelector("#mark_failed").hidden = notifications !== null;
    this.#form.hidden ||= notifications !== null;
    if (notifications) this.#page.merge(notifications);
  }
}

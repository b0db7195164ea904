// The list of conversations: shows what arrives. A conversation whose link has the focus keeps it.

import { fetchPage, repeated } from "./page_requests.js";

/** env: fetch, setTimeout, clearTimeout, DOMParser. page: inserted(element) for what was inserted. */
export class ConversationList {
  #env;
  #document;
  #page;
  #shownUpTo;
  #notifiedUpTo;
  #update;

  constructor(env, document, page) {
    this.#env = env;
    this.#document = document;
    this.#page = page;
    this.#shownUpTo = this.#notifiedUpTo = Number(document.body.dataset.since);
    this.#update = repeated(
      env,
      () => this.#isVisible && this.#notifiedUpTo > this.#shownUpTo,
      () => this.#fetch(),
    );
    document.addEventListener("visibilitychange", () => this.#update());
  }

  /** The name of the notification that counts what this page lists. */
  get counted() {
    return "unread_message_count";
  }

  /** A notification of the count with this timestamp: the list may have changed. */
  notified(count, timestamp) {
    const form = this.#document.querySelector("#mark_all");
    if (!form) return; // the session has ended
    this.#notifiedUpTo = Math.max(this.#notifiedUpTo, timestamp);
    form.elements.up_to.value = String(this.#notifiedUpTo);
    form.hidden = count === 0;
    this.#update();
  }

  get #list() {
    return this.#document.querySelector("#conversations");
  }

  get #isVisible() {
    return this.#list?.dataset.live !== undefined && this.#document.visibilityState === "visible";
  }

  async #fetch() {
    const notifiedUpTo = this.#notifiedUpTo;
    const page = await fetchPage(this.#env, "?", "#conversations");
    const list = this.#list;
    if (!list) return;
    const focused = list.contains(this.#document.activeElement) ? this.#document.activeElement.href : null;
    const parts = [...page.querySelector("#conversations").children];
    list.replaceChildren(...parts.map((each) => this.#document.importNode(each, true)));
    for (const link of list.querySelectorAll("a")) if (link.href === focused) link.focus({ preventScroll: true });
    this.#page.inserted(list);
    this.#shownUpTo = notifiedUpTo;
  }
}

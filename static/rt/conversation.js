// The page of a conversation: inserts what arrives at its end, marks what was shown, and shows what is being sent.
// Without JavaScript a form sends, and buttons mark.

import { measure } from "./counter.js";
import { fetchPage, postForm, repeated } from "./page_requests.js";

const MOST = 200; // messages inserted into one page; after that a link leads to the others
const NEAR = 48; // px from the end of the page: the reader is at the end

/**
 * env: fetch, setTimeout, clearTimeout, wallClock, DOMParser, IntersectionObserver, scrollTo, innerHeight().
 * page: merge(notifications) of an answer to a mark; inserted(element) for each message that was inserted; day(ms).
 */
export class ConversationPage {
  #env;
  #document;
  #page;
  #list;
  #live; // false on a page of older messages
  #received; // the keys of the newest messages that the page has, in each direction
  #sent;
  #checkedUpTo; // there is no message between the newest ones and this timestamp
  #notifiedUpTo;
  #marks = []; // not yet sent, in order: { form, values, done() }
  #inserted = 0;
  #asked = false; // for news, without a notification: a message was sent
  #observer;
  #mark;
  #insertNews;

  constructor(env, document, page) {
    this.#env = env;
    this.#document = document;
    this.#page = page;
    this.#list = document.querySelector("#conversation");
    this.#live = this.#list.dataset.received !== undefined;
    this.#received = Number(this.#list.dataset.received);
    this.#sent = Number(this.#list.dataset.sent);
    this.#checkedUpTo = this.#notifiedUpTo = Number(document.body.dataset.since);
    this.#mark = repeated(
      env,
      () => this.#visible && this.#marks.length > 0,
      () => this.#sendMark(),
    );
    this.#insertNews = repeated(
      env,
      () => this.#visible && this.#mayHaveNews,
      () => this.#fetchNews(),
    );
    this.#separateDays();
    this.#showBeginning();
    this.#observe();
    this.#list.addEventListener("click", (event) => this.#clicked(event));
    this.#toNewest?.addEventListener("click", () => this.#scrollToEnd());
    document.addEventListener("scroll", () => this.#atEnd && this.#hideToNewest(), { passive: true });
    for (const event of ["visibilitychange", "prerenderingchange"]) document.addEventListener(event, () => this.#work());
    this.#work();
  }

  /** Whether messages are inserted: the page is that of the newest ones. */
  get live() {
    return this.#live;
  }

  /** The name of the notification that counts what this page lists. */
  get counted() {
    return "unread_message_count";
  }

  /** A notification of the count with this timestamp: a message may have arrived, whether the count rose or not. */
  notified(_count, timestamp) {
    if (!this.#list.isConnected) return; // the session has ended, and the page is about to be loaded again
    this.#notifiedUpTo = Math.max(this.#notifiedUpTo, timestamp);
    this.#work();
  }

  /** Shows a message that is being sent, at the end; `entry` as in outbox.js. */
  showPending(entry, { again, discard }) {
    if (!this.#list.isConnected) return;
    const template = this.#document.querySelector("#pending_line");
    let line = this.#pending(entry.key);
    if (!line) {
      line = this.#document.importNode(template.content, true).firstElementChild;
      line.dataset.pending = entry.key;
      line.querySelector(".text").textContent = measure(entry.text).stored;
      line.querySelector(".again").addEventListener("click", again);
      line.querySelector(".discard").addEventListener("click", discard);
      this.#document.querySelector("#no_messages")?.remove();
      line.dataset.time = new Date(this.#env.wallClock()).toISOString();
      this.#list.append(line);
      this.#separateDays();
      this.#scrollToEnd();
    }
    const text = entry.reason || template.dataset[entry.state];
    const state = line.querySelector(".state");
    if (state.textContent !== text) state.textContent = text;
    line.classList.toggle("failed", entry.state === "failed");
    for (const name of [".again", ".discard"]) line.querySelector(name).hidden = entry.state !== "failed";
  }

  /** The message is sent: its line stays until the server's takes its place. */
  sent(entry, { timestamp }) {
    const line = this.#pending(entry.key);
    if (!line) return;
    if (this.#lineOf("own", timestamp)) return line.remove(); // it was sent before the page was loaded
    line.dataset.timestamp = timestamp;
    this.#asked = true;
    this.#work();
  }

  removePending(key) {
    this.#pending(key)?.remove();
  }

  #pending(key) {
    return [...this.#list.querySelectorAll(".pending")].find(({ dataset }) => dataset.pending === key);
  }

  #lineOf(side, timestamp) {
    const lines = [...this.#list.querySelectorAll(`.${side}[data-key]`)];
    return lines.find(({ dataset }) => Number(dataset.timestamp) === timestamp);
  }

  get #mayHaveNews() {
    return this.#live && (this.#asked || this.#notifiedUpTo > this.#checkedUpTo);
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
    this.#asked = false;
    let page;
    try {
      page = await fetchPage(this.#env, `?received=${this.#received}&sent=${this.#sent}`, "#conversation");
    } catch (error) {
      this.#asked = true;
      throw error;
    }
    const lines = [...page.querySelectorAll("#conversation > .line")];
    this.#insert(lines.map((line) => this.#document.importNode(line, true)));
    if (page.querySelector("[data-more]")) this.#asked = true;
    else this.#checkedUpTo = notifiedUpTo;
  }

  #insert(lines) {
    const wasAtEnd = this.#atEnd;
    const isNew = ({ dataset }) => !this.#list.querySelector(`[data-key="${dataset.key}"]`);
    const fresh = lines.filter(isNew);
    for (const line of lines) {
      const key = Number(line.dataset.key);
      if (line.matches(".own")) this.#sent = Math.max(this.#sent, key);
      else this.#received = Math.max(this.#received, key);
    }
    if (!fresh.length) return;
    for (const line of fresh) this.#place(line);
    this.#separateDays();
    this.#document.querySelector("#no_messages")?.remove();
    for (const line of fresh) this.#page.inserted(line);
    const arrived = fresh.some((line) => line.matches(".other"));
    if (wasAtEnd) this.#scrollToEnd();
    else if (arrived && this.#toNewest) this.#toNewest.hidden = false;
    this.#observe(fresh);
    this.#inserted += fresh.length;
    if (this.#inserted < MOST) return;
    this.#live = false;
    this.#document.querySelector("#more_messages").hidden = false;
  }

  /** In the order of keys, before what is being sent; in the place of the line that showed it meanwhile. */
  #place(line) {
    const timestamp = Number(line.dataset.timestamp);
    const pending = [...this.#list.querySelectorAll(".pending[data-timestamp]")];
    if (line.matches(".own")) pending.find(({ dataset }) => Number(dataset.timestamp) === timestamp)?.remove();
    const later = [...this.#list.querySelectorAll(".line")].find(
      ({ dataset }) => dataset.key === undefined || Number(dataset.key) > Number(line.dataset.key),
    );
    this.#list.insertBefore(line, later ?? null);
  }

  /** A separator before the first message of each day of the reader's time zone. */
  #separateDays() {
    const separators = [...this.#list.querySelectorAll(".day")];
    const template = separators[0]?.cloneNode(true) ?? this.#newSeparator();
    for (const each of separators) each.remove();
    let shown = null;
    for (const line of this.#list.querySelectorAll(".line")) {
      const dateTime = line.querySelector("time")?.dateTime ?? line.dataset.time;
      const day = this.#page.day(Date.parse(dateTime));
      if (day === shown) continue;
      shown = day;
      const separator = template.cloneNode(true);
      separator.querySelector("time").dateTime = dateTime;
      const before = line.previousElementSibling?.matches(".unread-line") ? line.previousElementSibling : line;
      before.before(separator);
      this.#page.inserted(separator);
    }
  }

  #newSeparator() {
    const separator = this.#document.createElement("li");
    const time = this.#document.createElement("time");
    separator.className = "day";
    time.dataset.format = "date";
    separator.append(time);
    return separator;
  }

  /** The first unread message, or the end. A link to a message, Back and reload keep their place. */
  #showBeginning() {
    const unread = this.#list.querySelector(".unread-line");
    if (this.#document.location.hash.startsWith("#line-") || !this.#live) return;
    if (unread) unread.scrollIntoView({ block: "start", behavior: "instant" });
    else this.#scrollToEnd();
  }

  get #toNewest() {
    return this.#document.querySelector("#to_newest");
  }

  #hideToNewest() {
    if (this.#toNewest) this.#toNewest.hidden = true;
  }

  get #atEnd() {
    const { scrollHeight, scrollTop } = this.#document.documentElement;
    return scrollHeight - scrollTop - this.#env.innerHeight() < NEAR;
  }

  #scrollToEnd() {
    this.#env.scrollTo({ top: this.#document.documentElement.scrollHeight, behavior: "instant" });
    this.#hideToNewest();
  }

  /** Watches received messages: the header and the form cover what is behind them. */
  #observe(lines = [...this.#list.querySelectorAll(".unread")]) {
    const covered = (selector) => this.#document.querySelector(selector)?.offsetHeight ?? 0;
    const top = covered(".navbar") + covered(".conversation-head");
    const rootMargin = `-${top}px 0px -${covered(".composer")}px`;
    this.#observer ??= new this.#env.IntersectionObserver((entries) => this.#seen(entries), { rootMargin });
    for (const line of lines) if (line.matches(".unread")) this.#observer.observe(line);
  }

  /** What comes into view together is one interval: nothing between two visible messages is out of view. */
  #seen(entries) {
    const lines = entries.filter(({ isIntersecting }) => isIntersecting).map(({ target }) => target);
    if (!lines.length) return;
    for (const line of lines) this.#observer.unobserve(line);
    const stamps = lines.map((line) => line.dataset.timestamp).sort((one, other) => one - other);
    const form = this.#document.querySelector("#mark_read");
    const done = () => (form.hidden = true);
    this.#marks.push({ form, values: { from: stamps[0], up_to: stamps.at(-1) }, done });
    const first = this.#document.querySelector("#first_unread");
    if (lines.some(({ dataset }) => dataset.key === first?.dataset.key)) first.hidden = true;
    this.#work();
  }

  async #sendMark() {
    const { form, values, done } = this.#marks[0];
    const notifications = await postForm(this.#env, form, values);
    this.#marks.shift();
    this.#document.querySelector("#mark_failed").hidden = notifications !== null;
    if (!notifications) return;
    done();
    this.#page.merge(notifications);
  }

  /** Marks a message and those after it as unread. They stay so while the page is open, although it shows them. */
  #clicked(event) {
    const button = event.target.closest(".mark-unread");
    if (!button) return;
    event.preventDefault();
    const done = () => {
      for (const line of this.#list.querySelectorAll(".other[data-key]")) {
        if (Number(line.dataset.timestamp) >= Number(button.value)) line.classList.add("unread");
      }
    };
    this.#marks.push({ form: button.form, values: { from: button.value }, done });
    this.#work();
  }
}

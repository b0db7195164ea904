// The outbox: messages that were sent on a conversation's page and not yet acknowledged. They are kept in the tab's
// sessionStorage, so that a reload loses none, and sent one after the other, each under its own key, so exactly once.

import { isProblem, milliseconds } from "./request.js";
import { Timer } from "./timers.js";

const TIMEOUT = 15_000;
const RETRY = 5_000;
const REPEATED = [408, 425, 429, 503]; // statuses after which the same request is sent again without being asked

/**
 * env: fetch, setTimeout, clearTimeout, tabStorage(), key() for a new message, navigator.
 * settings: url (of the API), token() (of the form), owner.
 * page: changed(entry) with { key, recipient, text, state, reason }; sent(entry, message) with the API's answer.
 * `state` is "sending", "waiting" (for a connection) or "failed"; `reason` the application's sentence, if it gave one.
 */
export class Outbox {
  #env;
  #settings;
  #page;
  #entries;
  #timer;
  #running = false;
  #connected = true;

  constructor(env, settings, page) {
    this.#env = env;
    this.#settings = settings;
    this.#page = page;
    this.#timer = new Timer(env);
    this.#entries = this.#load();
  }

  /** The messages to `recipient` that are not acknowledged, in the order in which they were sent. */
  to(recipient) {
    return this.#entries.filter((entry) => entry.recipient === recipient);
  }

  send(recipient, text) {
    const entry = { key: this.#env.key(), recipient, text, state: "sending", reason: "" };
    this.#entries.push(entry);
    this.#save();
    this.#page.changed(entry);
    this.flush();
  }

  /** Sends a message again, under the same key. */
  again(key) {
    for (const entry of this.#entries) if (entry.key === key) this.#set(entry, "sending");
    this.flush();
  }

  discard(key) {
    this.#entries = this.#entries.filter((entry) => entry.key !== key);
    this.#save();
  }

  /** What the page knows of its connection. When it is back, everything that had no answer is sent. */
  connection(connected) {
    const back = connected && !this.#connected;
    this.#connected = connected;
    if (back) this.retry();
  }

  /** Sends again what failed without an answer of the application. */
  retry() {
    for (const entry of this.#entries) if (!entry.reason) this.#set(entry, "sending");
    this.flush();
  }

  /** Sends what is due, oldest first. A failure without an answer ends the run: the order is kept. */
  async flush() {
    if (this.#running) return;
    this.#running = true;
    this.#timer.clear();
    for (let entry; (entry = this.#entries.find(({ state }) => state === "sending")); ) {
      if (!(await this.#deliver(entry))) break;
    }
    this.#running = false;
  }

  /** Whether the next one can be sent. */
  async #deliver(entry) {
    const { response, answer } = await this.#post(entry);
    if (response?.status === 201 && answer) {
      this.discard(entry.key);
      this.#page.sent(entry, answer);
      return true;
    }
    const refused = response && isProblem(response);
    if (refused && REPEATED.includes(response.status)) {
      this.#set(entry, "sending");
      this.#timer.set(milliseconds(response, "Retry-After") ?? RETRY, () => this.flush());
      return false;
    }
    if (refused && response.status !== 401 && response.status < 500) {
      this.#set(entry, "failed", answer?.detail ?? answer?.title ?? String(response.status));
      return true;
    }
    const offline = this.#env.navigator.onLine === false || !this.#connected;
    for (const each of this.#entries) if (each.state === "sending") this.#set(each, offline ? "waiting" : "failed");
    return false;
  }

  async #post({ key, recipient, text }) {
    const headers = {
      Accept: "application/json",
      "Content-Type": "application/json",
      "Idempotency-Key": key,
      "X-CSRFToken": this.#settings.token(),
    };
    const body = JSON.stringify({ recipient, body: text });
    const options = { method: "POST", headers, body, redirect: "error", signal: AbortSignal.timeout(TIMEOUT) };
    try {
      const response = await this.#env.fetch(this.#settings.url, options);
      return { response, answer: await response.json().catch(() => null) };
    } catch {
      return {}; // no answer: whether the message was sent is not known, and the key makes a retry safe
    }
  }

  #set(entry, state, reason = "") {
    if (!this.#entries.includes(entry)) return; // it was discarded meanwhile
    Object.assign(entry, { state, reason });
    this.#page.changed(entry);
  }

  get #name() {
    return `outbox ${this.#settings.owner}`;
  }

  #load() {
    const kept = JSON.parse(this.#storage?.getItem(this.#name) ?? "[]");
    return kept.map((entry) => ({ ...entry, state: "sending", reason: "" }));
  }

  #save() {
    const kept = this.#entries.map(({ key, recipient, text }) => ({ key, recipient, text }));
    try {
      if (kept.length) this.#storage?.setItem(this.#name, JSON.stringify(kept));
      else this.#storage?.removeItem(this.#name);
    } catch {
      // The storage is full. The messages are still on the page.
    }
  }

  get #storage() {
    try {
      return this.#env.tabStorage();
    } catch {
      return null; // the browser blocks storage
    }
  }
}

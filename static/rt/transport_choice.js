// Which transport to use: which ones have failed on this network, and for how long to avoid them.
// A failure counts only if the server responds by another transport. If the poll fails too, the server is down, and the
// failure says nothing about the transport.

export const BEST_FIRST = ["websocket", "longpoll", "poll"];

const REMEMBERED = 10 * 60_000;
const SHORT_LIFETIME = 10_000;
const KEY = "microblog-rt.transport";

export class TransportChoice {
  #env;
  #failed = new Set();
  #shortLifetimes = new Map(); // how many in a row, by transport
  #until = null;
  #unsaved = false;
  #saved = false;
  #serverDown = false;
  #suspect = null;
  #serverUpSince = -Infinity;

  constructor(env) {
    this.#env = env;
    this.#load();
  }

  /** The best transport that has not failed. The poll never counts as failed. */
  get best() {
    return BEST_FIRST.find((name) => !this.#failed.has(name));
  }

  /** When to try a better transport, or null if none has failed. */
  get until() {
    return this.#until;
  }

  /**
   * Counts the end of a connection: two short lifetimes in a row are a failure. True if the transport has now failed.
   * `serverResponds`: whether the server is known to respond in spite of it.
   */
  connectionEnded(connection, serverResponds) {
    const { name, lifetime } = connection;
    if (lifetime >= SHORT_LIFETIME) this.#shortLifetimes.delete(name);
    else if (this.#counts(connection)) this.#shortLifetimes.set(name, (this.#shortLifetimes.get(name) ?? 0) + 1);
    return this.#shortLifetimes.get(name) >= 2 && this.transportFailed(connection, serverResponds);
  }

  /** Marks the connection's transport as failed. False if the failure does not count. */
  transportFailed(connection, serverResponds) {
    if (!serverResponds || !this.#counts(connection)) return false;
    this.#markFailed([connection.name]);
    this.#unsaved = true;
    return true;
  }

  /** The user has too many connections: this page polls. Not saved, because the network is not the cause. */
  limitReached() {
    this.#markFailed(BEST_FIRST.slice(0, -1));
    this.#unsaved = false;
    return true;
  }

  /** Even polls get no response. */
  serverDown() {
    this.#serverDown = true;
    this.reset();
  }

  /** The connection got no response. If a later one of its transport does, the cause was an outage. */
  suspect({ name }) {
    this.#suspect = name;
  }

  /** Forgets all failures: every transport may be tried again. */
  reset() {
    this.#suspect = null;
    this.#failed.clear();
    this.#shortLifetimes.clear();
    this.#until = null;
    this.#unsaved = false;
  }

  /** The server has responded by the transport `name`. */
  responded(name) {
    if (this.#serverDown) this.#serverUpSince = this.#env.now();
    this.#serverDown = false;
    if (name !== this.best) return;
    if (name === this.#suspect) return this.reset();
    if (this.#unsaved) this.#save(name);
    else if (this.#saved && !this.#failed.size) this.#remove();
  }

  /** False while the server is down, and for connections opened before it was up again. */
  #counts({ openedAt }) {
    return !this.#serverDown && openedAt >= this.#serverUpSince;
  }

  #markFailed(names) {
    for (const name of names) {
      this.#failed.add(name);
      this.#shortLifetimes.delete(name);
    }
    this.#until = this.#env.now() + REMEMBERED;
  }

  // Storage may be forbidden, full or have invalid content. Then the page only has to search again.

  #load() {
    try {
      const { name, until } = JSON.parse(this.#env.storage().getItem(KEY));
      const left = until - this.#env.now();
      if (!(left > 0 && left <= REMEMBERED && BEST_FIRST.includes(name))) return;
      this.#failed = new Set(BEST_FIRST.slice(0, BEST_FIRST.indexOf(name)));
      this.#until = until;
      this.#saved = true;
    } catch {}
  }

  #save(name) {
    this.#unsaved = false;
    this.#saved = true;
    try {
      this.#env.storage().setItem(KEY, JSON.stringify({ name, until: this.#until }));
    } catch {}
  }

  #remove() {
    this.#saved = false;
    try {
      this.#env.storage().removeItem(KEY);
    } catch {}
  }
}

// Which transport to use: which ones have failed on this network, and for how long to avoid them.
// A failure counts only if the server responds by another transport. If the poll fails too, the server is down, and the
// failure says nothing about the transport.

const REMEMBERED = 10 * 60_000;
const SHORT_LIFETIME = 10_000;
const KEY = "microblog-rt.transport"; // of the application's own pages

export class TransportChoice {
  #env;
  #bestFirst; // names
  #failed = new Set();
  #until = null; // when to try a better transport, by the wall clock: it is stored for other pages
  #shortLifetimes = new Map(); // how many in a row, by transport
  #failedAt = new Map(); // when each transport last ended without a response
  #suspect = null; // a transport whose failure was an outage if it responds before others are tried again
  #serverUpSince = -Infinity; // Infinity: the server is down
  #limited = false;
  #stored = null;

  constructor(env) {
    this.#env = env;
    this.#bestFirst = Object.keys(env.transports);
    this.#load();
  }

  /** The best transport that has not failed. The poll never counts as failed. */
  get best() {
    return this.#bestFirst.find((name) => !this.#failed.has(name));
  }

  /** Milliseconds until a better transport is to be tried; null if none has failed. */
  get left() {
    return this.#until && Math.min(Math.max(0, this.#until - this.#env.wallClock()), REMEMBERED);
  }

  /** The server has responded by the transport `name`. */
  responded(name) {
    this.#serverUpSince = Math.min(this.#serverUpSince, this.#env.now());
    if (name !== this.best) return;
    if (name === this.#suspect) this.reset();
    else if (!this.#limited) this.#store(this.#until && JSON.stringify({ name, until: this.#until }));
  }

  /** Records the end of a connection while `active` is open (or null). True if another transport is to be tried at once. */
  ended(connection, { status, wait, timedOut }, active) {
    const { name, hasResponded } = connection;
    if (status === 429) return name !== "poll" && this.#limitReached();
    const unanswered = !hasResponded && !active?.hasResponded;
    const unavailable = status === 503 && (wait || hasResponded || unanswered);
    if (name === "poll" || unavailable || (name === "longpoll" && unanswered)) return this.#serverDown();
    const serverResponds = hasResponded || this.#respondsBesides(connection, active);
    if (!hasResponded) this.#failedAt.set(name, this.#env.now());
    if (!hasResponded && name === "longpoll") this.#suspect = name;
    if (connection.openedAt < this.#serverUpSince) return false;
    const short = connection.lifetime < SHORT_LIFETIME ? (this.#shortLifetimes.get(name) ?? 0) + 1 : 0;
    this.#shortLifetimes.set(name, short);
    return serverResponds && (timedOut || short >= 2) && this.#avoid([name]);
  }

  /** Forgets all failures: every transport may be tried again. */
  reset() {
    this.#suspect = this.#until = null;
    this.#limited = false;
    this.#failed.clear();
    this.#shortLifetimes.clear();
  }

  #respondsBesides(connection, active) {
    if (!active?.hasResponded || connection.wasSuspended) return false;
    // A poll says nothing about the time until the next one: two failures between two polls may be one outage.
    return active.name !== "poll" || active.lastResponseAt > (this.#failedAt.get(connection.name) ?? -Infinity);
  }

  /** The user has too many connections: this page polls. Not stored, because the network is not the cause. */
  #limitReached() {
    this.#limited = true;
    return this.#avoid(this.#bestFirst.slice(0, -1));
  }

  #serverDown() {
    this.#serverUpSince = Infinity;
    this.reset();
    return false;
  }

  #avoid(names) {
    for (const name of names) {
      this.#failed.add(name);
      this.#shortLifetimes.delete(name);
    }
    this.#until = this.#env.wallClock() + REMEMBERED;
    return true;
  }

  get #key() {
    return this.#env.storageKey ?? KEY;
  }

  // Storage may be forbidden, full or have invalid content. Then the page only has to search again.

  #load() {
    try {
      this.#stored = this.#env.storage().getItem(this.#key);
      const { name, until } = JSON.parse(this.#stored);
      const left = until - this.#env.wallClock();
      if (!(left > 0 && left <= REMEMBERED && this.#bestFirst.includes(name))) return;
      this.#failed = new Set(this.#bestFirst.slice(0, this.#bestFirst.indexOf(name)));
      this.#until = until;
    } catch {}
  }

  #store(choice) {
    if (choice === this.#stored) return;
    this.#stored = choice;
    try {
      if (choice) this.#env.storage().setItem(this.#key, choice);
      else this.#env.storage().removeItem(this.#key);
    } catch {}
  }
}

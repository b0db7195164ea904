// Which transport to want: what has failed on this network, for how long that is believed, and who remembers it.
// Nothing is opened here. A failure is believed only when the server is known to answer in some other way: when the poll
// fails as well, the server is away, and nothing was learnt about anything.

export const BEST_FIRST = ["websocket", "longpoll", "poll"];

const REMEMBERED = 10 * 60_000;
const EARLY_DEATH = 10_000;
const KEY = "microblog-rt.transport";

export class Choice {
  #world;
  #failed = new Set();
  #deaths = new Map();
  #until = null;
  #unsaved = false;
  #saved = false;
  #away = false;
  #doubted = null;
  #backSince = -Infinity;

  constructor(world) {
    this.#world = world;
    this.#recall();
  }

  /** The best that has not failed; the poll cannot. */
  get best() {
    return BEST_FIRST.find((name) => !this.#failed.has(name));
  }

  /** When a better one is due to be tried, or null when the best is wanted already. */
  get until() {
    return this.#until;
  }

  /** A line ended. True when that was once too often; `proven` when the server answered all the same. */
  died(line, proven) {
    if (line.lived >= EARLY_DEATH) this.#deaths.delete(line.name);
    else if (this.#counts(line)) this.#deaths.set(line.name, (this.#deaths.get(line.name) ?? 0) + 1);
    return this.#deaths.get(line.name) >= 2 && this.failed(line, proven);
  }

  /** A line is of no use. True when that is believed of its transport. */
  failed(line, proven) {
    if (!proven || !this.#counts(line)) return false;
    this.#fall([line.name]);
    this.#unsaved = true;
    return true;
  }

  /** Too many connections: polls only. That is no fact about the network, so no other page is to know. */
  limited() {
    this.#fall(BEST_FIRST.slice(0, -1));
    this.#unsaved = false;
    return true;
  }

  /** Even the plainest question goes unanswered. */
  away() {
    this.#away = true;
    this.retry();
  }

  /** This one was not answered, which may be its fault or an outage's. If it answers after all, nothing failed. */
  doubt({ name }) {
    this.#doubted = name;
  }

  /** Forgets all failures: everything may be tried again. */
  retry() {
    this.#doubted = null;
    this.#failed.clear();
    this.#deaths.clear();
    this.#until = null;
    this.#unsaved = false;
  }

  /** The server answered by this transport: it is there, so what failed did fail. */
  answered(name) {
    if (this.#away) this.#backSince = this.#world.now();
    this.#away = false;
    if (name !== this.best) return;
    if (name === this.#doubted) return this.retry();
    if (this.#unsaved) this.#save(name);
    else if (this.#saved && !this.#failed.size) this.#forget();
  }

  /** A line from the time when the server was away says nothing, even if it ends later. */
  #counts({ opened }) {
    return !this.#away && opened >= this.#backSince;
  }

  #fall(names) {
    for (const name of names) {
      this.#failed.add(name);
      this.#deaths.delete(name);
    }
    this.#until = this.#world.now() + REMEMBERED;
  }

  // Storage may be forbidden, full or written by others: then the search is made again, and that is all.

  #recall() {
    try {
      const { name, until } = JSON.parse(this.#world.storage().getItem(KEY));
      const left = until - this.#world.now();
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
      this.#world.storage().setItem(KEY, JSON.stringify({ name, until: this.#until }));
    } catch {}
  }

  #forget() {
    this.#saved = false;
    try {
      this.#world.storage().removeItem(KEY);
    } catch {}
  }
}

// Waiting: one timer that can be moved, and how long to wait. Why somebody waits is said by who waits.

const LONGEST = 2 ** 31 - 1; // a browser fires a longer timer at once
const FIRST_BACKOFF = 500;
const LAST_BACKOFF = 30_000;

/** One timer: setting it again moves it. Times are milliseconds throughout this module. */
export class Timer {
  #world;
  #id = null;

  constructor(world) {
    this.#world = world;
  }

  get pending() {
    return this.#id !== null;
  }

  set(ms, act) {
    this.clear();
    this.#id = this.#world.setTimeout(() => {
      this.#id = null;
      act();
    }, Math.min(ms, LONGEST));
  }

  clear() {
    if (this.pending) this.#world.clearTimeout(this.#id);
    this.#id = null;
  }
}

/** Full jitter: anything between nothing and a bound that doubles, so that a restart is not answered by a herd. */
export class Backoff {
  #world;
  #bound = FIRST_BACKOFF;

  constructor(world) {
    this.#world = world;
  }

  next() {
    const ms = this.#world.random() * this.#bound;
    this.#bound = Math.min(2 * this.#bound, LAST_BACKOFF);
    return ms;
  }

  reset() {
    this.#bound = FIRST_BACKOFF;
  }
}

/** A little later than asked, never sooner. */
export function jitter(world, ms) {
  return ms * (1 + world.random() / 5);
}

// Timers and delays. All times are in milliseconds.

export const LONGEST_WAIT = 5 * 60_000; // whatever the server says

const LONGEST = 2 ** 31 - 1; // browsers run a longer timer at once
const FIRST_BACKOFF = 500;
const LAST_BACKOFF = 30_000;

/** One timer. Setting it again replaces the pending call. */
export class Timer {
  #env;
  #id = null;

  constructor(env) {
    this.#env = env;
  }

  get pending() {
    return this.#id !== null;
  }

  set(ms, callback) {
    this.clear();
    this.#id = this.#env.setTimeout(() => {
      this.#id = null;
      callback();
    }, Math.min(ms, LONGEST));
  }

  clear() {
    if (this.pending) this.#env.clearTimeout(this.#id);
    this.#id = null;
  }
}

/** Exponential backoff with full jitter, so that clients do not reconnect all at once after a restart. */
export class Backoff {
  #env;
  #limit = FIRST_BACKOFF;

  constructor(env) {
    this.#env = env;
  }

  /** A random delay between 0 and a limit that doubles with each call, up to 30 s. */
  next() {
    const ms = this.#env.random() * this.#limit;
    this.#limit = Math.min(2 * this.#limit, LAST_BACKOFF);
    return ms;
  }

  reset() {
    this.#limit = FIRST_BACKOFF;
  }
}

/** `ms` plus up to 20 %. */
export function jitter(env, ms) {
  return ms * (1 + env.random() / 5);
}

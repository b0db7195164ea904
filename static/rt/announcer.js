// Announces a growing number of unread messages to screen readers.

import { Timer } from "./timers.js";

const PERIOD = 5_000; // at most one announcement in this time; the latest number counts

export class Announcer {
  #env;
  #document;
  #element;
  #plural;
  #count;
  #known; // what the user has heard or read
  #timer;

  /** `element` is a live region with the sentences in data-one and data-other. `count` is the number known already. */
  constructor(env, document, element, language, count) {
    this.#env = env;
    this.#document = document;
    this.#element = element;
    this.#plural = new Intl.PluralRules(language);
    this.#count = this.#known = count;
    this.#timer = new Timer(env);
  }

  /** The sentence for n, for example "3 unread messages". */
  sentence(n) {
    const { one, other } = this.#element.dataset;
    return (this.#plural.select(n) === "one" ? one : other).replace("{n}", n);
  }

  update(n) {
    this.#count = n;
    if (n < this.#known) this.#forget(n);
    if (!this.#timer.pending) this.#announce();
  }

  /** A hidden tab is silent: its title says the number when the user comes back to it. */
  #announce() {
    if (this.#count <= this.#known) return;
    this.#known = this.#count;
    if (this.#document.visibilityState !== "visible") return;
    this.#element.textContent = this.sentence(this.#count);
    this.#timer.set(PERIOD, () => this.#announce());
  }

  /** After reading, the old sentence is no longer true, and the same sentence must be a change again. */
  #forget(n) {
    this.#known = n;
    this.#element.textContent = "";
  }
}

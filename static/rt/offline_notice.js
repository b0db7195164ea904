// The notice that the page may be out of date: "Offline. Last updated 14:05".

import { Timer } from "./timers.js";

const DELAY = 5_000; // a quick reconnect shows no notice
const REFRESH = 60_000; // after midnight the text needs the date

export class OfflineNotice {
  #element;
  #times;
  #timer;
  #updatedAt;

  /** `element.dataset.text` is the sentence, with {time} where the time of the last update goes. */
  constructor(env, element, times) {
    this.#element = element;
    this.#times = times;
    this.#timer = new Timer(env);
    this.#updatedAt = times.now(); // the page has just been rendered
  }

  /** The page is up to date: hides the notice. */
  online() {
    this.#updatedAt = this.#times.now();
    this.#timer.clear();
    this.#element.hidden = true;
  }

  /** The connection was lost: shows the notice unless online() is called within 5 s. */
  reconnecting() {
    if (this.#element.hidden && !this.#timer.pending) this.#timer.set(DELAY, () => this.offline());
  }

  /** Shows the notice at once. */
  offline() {
    const text = this.#element.dataset.text.replace("{time}", this.#times.absolute(this.#updatedAt));
    // Screen readers announce every write, so an unchanged text is not written again.
    if (this.#element.hidden || this.#element.textContent !== text) this.#element.textContent = text;
    this.#element.hidden = false;
    this.#timer.set(REFRESH, () => this.offline());
  }
}

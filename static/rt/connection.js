// The quiet sign of a lost connection: what is shown was right at HH:MM. Who loses and finds it is client.js.

import { Timer } from "./waits.js";

const PATIENCE = 5_000; // a quick reconnect is nobody's business

export class ConnectionSign {
  #world;
  #element;
  #clock;
  #timer;
  #lastRight;

  constructor(world, element, language) {
    this.#world = world;
    this.#element = element;
    this.#clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    this.#timer = new Timer(world);
    this.#lastRight = world.now(); // the page has just been rendered
  }

  /** What is shown is what is. */
  right() {
    this.#lastRight = this.#world.now();
    this.#timer.clear();
    this.#element.hidden = true;
  }

  /** It may no longer be; soon healed, it is not worth a word. */
  doubt() {
    if (this.#element.hidden && !this.#timer.pending) this.#timer.set(PATIENCE, () => this.gone());
  }

  gone() {
    this.#timer.clear();
    this.#element.textContent = this.#element.dataset.text.replace("{time}", this.#clock.format(this.#lastRight));
    this.#element.hidden = false;
  }
}

// One attempt at being told: a transport, the cursor that goes with it, and its deadline for a first answer.
// A closed line is deaf: what an abandoned transport still delivers is dropped here, whatever the transport.
// Which line is live, and what its end means, is the client's to know.
//
// The surface of every transport: `transport(world, line)` starts it and returns { close() }. It asks since `line.since`,
// gives each array to `line.answer(notifications, rest)` (rest: ms the server wants no poll for) and its end, once, to
// `line.ended({ status, wait })`: the HTTP status the poll would have answered (0: none), and ms to wait if it was told.

import { Timer } from "./waits.js";

const FIRST_ANSWER = 4_000;

export class Line {
  first = null; // when it first answered
  closed = false;
  #world;
  #hears;
  #deadline;
  #transport;

  /** `hears` is told heard(line, notifications, rest), late(line) and ended(line, ending). */
  constructor(world, name, since, hears) {
    Object.assign(this, { name, since, opened: world.now(), seen: world.now() });
    this.#world = world;
    this.#hears = hears;
    this.#deadline = new Timer(world);
  }

  open(transport) {
    this.#deadline.set(FIRST_ANSWER, () => this.#hears.late(this));
    this.#transport = transport(this.#world, this);
    return this;
  }

  answer(notifications, rest = 0) {
    if (this.closed) return;
    this.seen = this.#world.now();
    this.first ??= this.seen;
    this.#deadline.clear();
    this.#hears.heard(this, notifications, rest);
  }

  ended(ending) {
    if (this.closed) return;
    this.close();
    this.#hears.ended(this, ending);
  }

  close() {
    this.closed = true;
    this.#deadline.clear();
    this.#transport.close();
  }

  /** For how long it was of use: 0 when it never answered. */
  get lived() {
    return this.first === null ? 0 : this.#world.now() - this.first;
  }

  get silent() {
    return this.#world.now() - this.seen;
  }

  /** Whether the deadline came so late that the page must have slept through it. */
  get overslept() {
    return this.#world.now() - this.opened > FIRST_ANSWER + 1_000;
  }
}

// One connection: a transport, its cursor, and the deadline for its first response.
//
// The interface of every transport: `transport(env, connection)` starts it and returns { close() }. It requests what is
// newer than `connection.since`, passes each array to `connection.receive(notifications, pollAfter)` (pollAfter: the
// server wants no poll for that many ms) and calls `connection.end({ status, wait, restarts })` once: the HTTP status
// that the poll would have got (0: no valid response), the ms to wait before the next request, if the server gave them,
// and whether the server restarts. 401 and 403 are the application's own.

import { Timer } from "./timers.js";

const FIRST_RESPONSE = 4_000;

export class Connection {
  firstResponseAt = null;
  closed = false;
  #env;
  #wallClock;
  #handlers;
  #deadline;
  #transport;

  /** `handlers`: received(connection, notifications, pollAfter), ended(connection, reason). */
  constructor(env, name, since, handlers) {
    Object.assign(this, { name, since, openedAt: env.now(), lastResponseAt: env.now() });
    this.#env = env;
    this.#wallClock = env.wallClock();
    this.#handlers = handlers;
    this.#deadline = new Timer(env);
  }

  open(transport) {
    // The poll has its own time-out, because there is no simpler transport.
    if (this.name !== "poll") this.#deadline.set(FIRST_RESPONSE, () => this.end({ status: 0, timedOut: true }));
    this.#transport = transport(this.#env, this);
    return this;
  }

  /** Ignored after close(), like end(): no transport can deliver through a closed connection. */
  receive(notifications, pollAfter = 0) {
    if (this.closed) return;
    this.lastResponseAt = this.#env.now();
    this.#wallClock = this.#env.wallClock();
    this.firstResponseAt ??= this.lastResponseAt;
    this.#deadline.clear();
    this.#handlers.received(this, notifications, pollAfter);
  }

  end(reason) {
    if (this.closed) return;
    this.close();
    this.#handlers.ended(this, reason);
  }

  close() {
    this.closed = true;
    this.#deadline.clear();
    this.#transport.close();
  }

  get hasResponded() {
    return this.firstResponseAt !== null;
  }

  /** Milliseconds since the first response; 0 without one. */
  get lifetime() {
    return this.hasResponded ? this.#env.now() - this.firstResponseAt : 0;
  }

  /** Milliseconds since the last response, or since it was opened. Monotonic clocks may stop while a device sleeps. */
  get silence() {
    return Math.max(this.#env.now() - this.lastResponseAt, this.#env.wallClock() - this.#wallClock);
  }

  /** Whether the deadline passed long ago: its timer did not run in time because the page was suspended. */
  get wasSuspended() {
    return this.#env.now() - this.openedAt > FIRST_RESPONSE + 1_000;
  }
}

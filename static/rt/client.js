// The client: keeps one active connection, searches for a better one, and polls while there is none.
//
// | state | event | next state | action |
// |---|---|---|---|
// | idle | start | searching | open the best transport; poll after 1 s |
// | searching | failure | searching | open the best transport after a backoff; poll |
// | searching | response of the best transport | connected | stop polling |
// | searching | response of another transport | fallback | open the best transport after a backoff |
// | fallback | response of a better transport | connected | close the other connection |
// | fallback | failure of the better transport | fallback | open the best transport after a backoff |
// | fallback | failure of the active connection | searching | open the best transport after a backoff; poll |
// | connected | failure | searching | open the best transport after a backoff; poll after 1 s |
// | connected | ten minutes after a transport failed | fallback | open the best transport |
// | connected | wake after 2 s of silence, or network change | probing | open a second connection |
// | probing | response of the second connection | connected | close the first |
// | probing | failure of the second connection | searching | close the first, unless it has responded since |
// | searching, fallback | wake | unchanged | open the best transport and poll at once |
// | searching, fallback, connected, probing | refusal | asking | close all connections; poll after 0.3 s |
// | asking | response | fallback | open the best transport after a backoff |
// | asking | failure | asking | poll again |
// | asking | refusal | stopped | show that the session has ended, or the offline notice |
// | stopped | start, wake | asking | poll at once |
// | any but stopped | pause | idle | close all connections |
//
// A refusal is the application's own: 401 "signed_out", 403 "forbidden", 4401 or 4403. Every other end is a failure.
// See also: docs/protocol.md, which has the same table.

import { Connection } from "./connection.js";
import { NotificationFilter } from "./notification_filter.js";
import { Backoff, LONGEST_WAIT, Timer, jitter } from "./timers.js";
import { TransportChoice } from "./transport_choice.js";

const GRACE = 1_000; // a page just rendered, or a quick reconnect, needs no poll
const POLL_RETRY = 5_000;
const NEW_SESSION = 300; // time for the cookie of a new session to arrive
const SILENT = 2_000;
const RESTART = 900; // another process of the server may be ready at once
const USEFUL = 30_000;

/**
 * env: url, heartbeat (ms), transports (functions by name, the best first, poll the last), WebSocket, fetch,
 * now (monotonic), wallClock, setTimeout, clearTimeout, random, storage(), pollsOnly(), and optionally token(), which
 * returns a bearer token or a promise of one, and storageKey. page: apply(notifications); online(restored), reconnecting(), offline() about the connection;
 * signedOut(). `restored`: the server's clock was set back.
 */
export class Client {
  state = "idle"; // read only
  #env;
  #page;
  #cursor;
  #filter;
  #choice;
  #backoff;
  #active = null; // the only connection that moves the cursor
  #candidate = null; // becomes the active connection with its first response
  #streamTimer; // opens the next candidate
  #pollTimer; // sends the next poll while no connection is active
  #betterTimer; // tries a better transport
  #noStreamBefore = 0; // Retry-After
  #noPollBefore = 0; // Retry-After, Poll-After

  constructor(env, cursor, page) {
    this.#env = env;
    this.#page = page;
    this.#cursor = cursor;
    this.#filter = new NotificationFilter(cursor, page.apply);
    this.#choice = new TransportChoice(env);
    this.#backoff = new Backoff(env);
    this.#streamTimer = new Timer(env);
    this.#pollTimer = new Timer(env);
    this.#betterTimer = new Timer(env);
  }

  /** What this page knows: the latest notification of each name newer than `from`, up to `cursor`. */
  get known() {
    return { cursor: this.#cursor, from: this.#filter.from, notifications: this.#filter.latest };
  }

  start() {
    if (this.state === "stopped") this.wake();
    if (this.state !== "idle") return;
    this.state = "searching";
    this.#page.reconnecting();
    this.#openIn(0);
    this.#pollIn(GRACE);
    this.#scheduleBetter();
  }

  /** Closes all connections. start() continues from the same cursor. */
  pause() {
    if (this.state !== "stopped") this.#close("idle");
  }

  /** Tries again without backoff, and probes an active connection that is silent or may use another network. */
  wake({ networkChanged = false } = {}) {
    if (this.state === "idle") return;
    if (this.state === "stopped") this.state = "asking";
    this.#closeUnanswered();
    // A socket may be dead without a close event: a second one is opened, and replaces it with its first response.
    if (networkChanged || this.#active?.name !== this.#best || this.#active.silence > SILENT) this.#openIn(0);
    this.#pollIn(0);
    this.#settle();
  }

  /** Applies the newer values of another response. The cursor does not move. */
  merge(notifications) {
    this.#filter.merge(notifications);
  }

  /** Adopts what another page knows. False if it does not reach back to this page's cursor. */
  adopt({ cursor, from, notifications }, restored = false) {
    if (restored) this.#filter.reset();
    else if (this.#cursor < from) return false;
    this.#filter.adopt(notifications, from);
    this.#cursor = cursor;
    return true;
  }

  get #best() {
    return this.#env.pollsOnly() ? "poll" : this.#choice.best;
  }

  /** Connections still without a response, possibly from another network, must not delay the next attempt. */
  #closeUnanswered() {
    if (this.#env.now() < this.#noStreamBefore) return; // there is no next attempt yet
    for (const connection of [this.#active, this.#candidate])
      if (connection?.hasResponded === false && connection.silence > GRACE) connection.close();
    if (this.#active?.closed) this.#active = null;
    if (this.#candidate?.closed) this.#candidate = null;
  }

  #openIn(ms) {
    if (this.state !== "asking") this.#streamTimer.set(ms, () => this.#openCandidate());
  }

  /** Opens the best transport at once, or after `ms` unless an attempt is pending. */
  #search(now, ms) {
    if (this.#candidate || this.#active?.name === this.#best) return;
    if (now || !this.#streamTimer.pending) this.#openIn(now ? 0 : (ms ?? this.#backoff.next()));
  }

  #openCandidate() {
    const wait = this.#noStreamBefore - this.#env.now();
    if (wait > 0) return this.#openIn(wait);
    if (this.#best === "poll") this.#pollIn(0);
    else this.#candidate ??= this.#open(this.#best);
    this.#settle();
  }

  #pollIn(ms) {
    if (this.#active) return;
    this.#pollTimer.set(Math.max(ms, this.#noPollBefore - this.#env.now()), () => (this.#active = this.#open("poll")));
  }

  #open(name) {
    const handlers = { received: (...args) => this.#received(...args), ended: (...args) => this.#ended(...args) };
    return new Connection(this.#env, name, this.#cursor, handlers).open(this.#env.transports[name]);
  }

  #received(connection, notifications, pollAfter) {
    this.#choice.responded(connection.name);
    if (connection === this.#candidate) this.#activate(connection);
    if (pollAfter) this.#noPollBefore = this.#env.now() + pollAfter;
    if (this.state === "asking") this.state = "searching";
    this.#search(false);
    this.#settle();
    const restored = this.#filter.follow(notifications, connection.since);
    connection.since = this.#cursor = notifications.at(-1)?.timestamp ?? connection.since;
    this.#page.online(restored);
  }

  #activate(candidate) {
    this.#active?.close();
    this.#active = candidate;
    this.#candidate = null;
    this.#streamTimer.clear();
    this.#pollTimer.clear();
  }

  #ended(connection, reason) {
    const { status, wait = 0, restarts } = reason;
    if (status === 401 || status === 403) return this.#refused(status);
    this.#release(connection);
    const until = this.#env.now() + Math.min(wait, LONGEST_WAIT);
    if (wait) this.#noStreamBefore = until;
    // Polls go on while streams are refused.
    if (wait && (connection.name === "poll" || connection.hasResponded || status === 429)) this.#noPollBefore = until;
    if (connection.lifetime >= USEFUL && connection.name !== "poll") this.#backoff.reset();
    this.#search(this.#choice.ended(connection, reason, this.#active), restarts && RESTART * this.#env.random());
    // Browsers do not report why a socket was refused; the status of a poll does.
    this.#pollIn(connection.name === "poll" ? jitter(this.#env, POLL_RETRY) : connection.hasResponded ? GRACE : 0);
    this.#scheduleBetter();
    this.#settle();
  }

  /** The browser may have a new session by now (a new password starts one). A poll uses it, or is refused as well. */
  #refused(status) {
    if (this.state !== "asking") {
      this.#close("asking");
      return this.#pollIn(NEW_SESSION);
    }
    this.#close("stopped");
    if (status === 401) this.#page.signedOut();
    else this.#page.offline();
  }

  #release(connection) {
    const active = this.#active;
    if (connection === active) this.#active = null;
    else this.#candidate = null;
    if (connection === active) this.#page.reconnecting();
    // A candidate of the active transport was opened because the active connection was doubtful. It still is.
    else if (active?.name === connection.name && active.lastResponseAt < connection.openedAt) active.end({ status: 0 });
  }

  #settle() {
    if (this.state === "asking") return;
    if (!this.#active?.hasResponded) this.state = "searching";
    else if (this.#active.name !== this.#best) this.state = "fallback";
    else this.state = this.#candidate ? "probing" : "connected";
  }

  #scheduleBetter() {
    const { left } = this.#choice;
    if (left === null) return this.#betterTimer.clear();
    this.#betterTimer.set(left, () => {
      this.#choice.reset();
      this.#search(true);
      this.#settle();
    });
  }

  #close(state) {
    this.state = state;
    for (const timer of [this.#streamTimer, this.#pollTimer, this.#betterTimer]) timer.clear();
    for (const connection of [this.#active, this.#candidate]) connection?.close();
    this.#active = this.#candidate = null;
  }
}

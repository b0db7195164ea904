// The client: keeps one active connection, searches for a better one, and polls while there is none.
// See also: docs/protocol.md, the rules for clients.

import { Connection } from "./connection.js";
import { longpoll } from "./longpoll.js";
import { NotificationFilter } from "./notification_filter.js";
import { poll } from "./poll.js";
import { Backoff, Timer, jitter } from "./timers.js";
import { TransportChoice } from "./transport_choice.js";
import { websocket } from "./websocket.js";

const TRANSPORTS = { websocket, longpoll, poll };
const GRACE = 1_000; // a page just rendered, or a quick reconnect, needs no poll
const POLL_RETRY = 5_000;
const NEW_SESSION = 300; // time for the cookie of a new session to arrive
const USEFUL = 30_000;

/**
 * env: url, heartbeat (ms), WebSocket, fetch, now, setTimeout, clearTimeout, random, storage().
 * page: apply(notifications); online(), reconnecting(), offline() about the connection; signedOut().
 */
export class Client {
  #env;
  #page;
  #since;
  #filter;
  #choice;
  #backoff;
  #state = "idle"; // "idle", "running" or "stopped" (final)
  #active = null; // the only connection that moves the cursor
  #candidate = null; // becomes the active connection with its first response
  #searchTimer; // opens the next candidate
  #pollTimer; // sends the next poll while no connection is active
  #betterTimer; // tries a better transport
  #failedAt = new Map(); // when each transport last ended without a response
  #noRequestBefore = 0; // Retry-After
  #noPollBefore = 0; // Poll-After

  constructor(env, since, page) {
    this.#env = env;
    this.#page = page;
    this.#since = since;
    this.#filter = new NotificationFilter(since, page.apply);
    this.#choice = new TransportChoice(env);
    this.#backoff = new Backoff(env);
    this.#searchTimer = new Timer(env);
    this.#pollTimer = new Timer(env);
    this.#betterTimer = new Timer(env);
  }

  start() {
    if (this.#state !== "idle") return;
    this.#state = "running";
    this.#page.reconnecting();
    this.#search({ now: true });
    this.#schedulePoll(GRACE);
    this.#scheduleBetter();
  }

  /** Closes all connections. start() continues from the same cursor. */
  pause() {
    if (this.#state === "running") this.#halt("idle");
  }

  /** Reconnects without backoff, unless the active connection is healthy. */
  retryNow({ networkChanged = false } = {}) {
    if (this.#state !== "running") return;
    this.#closeUnanswered();
    // A socket may be dead without a close event: a second one is opened, and replaces it with its first response.
    const doubtful = networkChanged || this.#active?.silence > this.#env.heartbeat;
    if (doubtful || this.#active?.name !== this.#choice.best) this.#searchTimer.set(0, () => this.#openCandidate());
    this.#schedulePoll(0);
  }

  /** Connections still without a response, possibly from another network, must not delay the next attempt. */
  #closeUnanswered() {
    if (this.#env.now() < this.#noRequestBefore) return; // there is no next attempt yet
    const unanswered = (connection) => connection?.hasResponded === false && connection.silence > GRACE;
    for (const connection of [this.#active, this.#candidate].filter(unanswered)) connection.close();
    if (this.#active?.closed) this.#active = null;
    if (this.#candidate?.closed) this.#candidate = null;
  }

  /** Applies the newer values of another response. The cursor does not move. */
  merge(notifications) {
    this.#filter.merge(notifications);
  }

  #search({ now }) {
    if (this.#candidate || this.#active?.name === this.#choice.best) return;
    if (now) this.#searchTimer.set(0, () => this.#openCandidate());
    else if (!this.#searchTimer.pending) this.#searchTimer.set(this.#backoff.next(), () => this.#openCandidate());
  }

  #openCandidate() {
    const wait = this.#noRequestBefore - this.#env.now();
    const name = this.#choice.best;
    if (wait > 0) this.#searchTimer.set(wait, () => this.#openCandidate());
    else if (name === "poll") this.#schedulePoll(0);
    else this.#candidate ??= this.#open(name);
  }

  #schedulePoll(ms) {
    if (!this.#active) this.#pollTimer.set(ms, () => this.#poll());
  }

  #poll() {
    const wait = Math.max(this.#noRequestBefore, this.#noPollBefore) - this.#env.now();
    if (wait > 0) this.#schedulePoll(wait);
    else this.#active = this.#open("poll");
  }

  #open(name) {
    const handlers = {
      received: (...args) => this.#received(...args),
      timedOut: (connection) => this.#timedOut(connection),
      ended: (...args) => this.#ended(...args),
    };
    return new Connection(this.#env, name, this.#since, handlers).open(TRANSPORTS[name]);
  }

  #received(connection, notifications, pollAfter) {
    this.#choice.responded(connection.name);
    if (connection === this.#candidate) this.#activate(connection);
    else this.#search({ now: false }); // after the end of a session the poll responds, and no search is scheduled yet
    if (pollAfter) this.#noPollBefore = this.#env.now() + pollAfter;
    this.#page.online();
    this.#filter.follow(notifications, connection.since);
    connection.since = this.#since = notifications.at(-1)?.timestamp ?? connection.since;
  }

  #activate(candidate) {
    this.#active?.close();
    this.#active = candidate;
    this.#candidate = null;
    this.#searchTimer.clear();
    this.#pollTimer.clear();
    this.#search({ now: false });
  }

  #timedOut(connection) {
    if (connection.name === "poll") return; // there is no simpler transport
    connection.close();
    this.#release(connection);
    this.#search({ now: this.#choice.transportFailed(connection, this.#serverResponds(connection)) });
    this.#scheduleBetter();
  }

  #ended(connection, { status, wait }) {
    if (status === 401) return this.#sessionEnded(connection);
    if (status === 403) return this.#stop(() => this.#page.offline());
    this.#release(connection);
    if (wait) this.#noRequestBefore = this.#env.now() + wait;
    this.#search({ now: this.#recordEnd(connection, status, wait) });
    this.#schedulePoll(this.#pollDelay(connection));
    this.#scheduleBetter();
  }

  /** The browser may have a new session by now (a new password starts one). The poll uses it, or gets a 401 as well. */
  #sessionEnded(connection) {
    if (connection.name === "poll") return this.#stop(() => this.#page.signedOut());
    this.#release(connection);
    this.#schedulePoll(NEW_SESSION);
  }

  #release(connection) {
    if (connection === this.#active) {
      this.#active = null;
      this.#page.reconnecting();
      return;
    }
    this.#candidate = null;
    // A candidate of the active transport was opened because the active connection was doubtful. It still is.
    if (this.#active?.name === connection.name) this.#active.end({ status: 0 });
  }

  /** Updates the transport choice and the backoff. True if another transport is to be tried at once. */
  #recordEnd(connection, status, wait) {
    const isPoll = connection.name === "poll";
    if (connection.lifetime >= USEFUL && !isPoll) this.#backoff.reset();
    if (status === 429) return !isPoll && this.#choice.limitReached();
    if (isPoll || this.#affectsAll(connection, status, wait)) this.#choice.serverDown();
    else if (connection.name === "longpoll" && !connection.hasResponded) this.#choice.suspect(connection);
    return this.#choice.connectionEnded(connection, this.#serverResponds(connection));
  }

  /** Whether the end concerns all transports. While another connection is healthy, only a 503 with a time does. */
  #affectsAll({ name, hasResponded }, status, wait) {
    if (!hasResponded && this.#active?.hasResponded) return status === 503 && Boolean(wait);
    return status === 503 || (name === "longpoll" && !hasResponded);
  }

  /** Whether the server is known to respond in spite of this end. Records ends without a response. */
  #serverResponds(connection) {
    if (connection.hasResponded) return true;
    const previous = this.#failedAt.get(connection.name) ?? -Infinity;
    this.#failedAt.set(connection.name, this.#env.now());
    if (!this.#active?.hasResponded || connection.wasSuspended) return false;
    // A poll says nothing about the time until the next one: two failures between two polls may be one outage.
    return this.#active.name !== "poll" || this.#active.lastResponseAt > previous;
  }

  #pollDelay(connection) {
    if (connection.name === "poll") return jitter(this.#env, POLL_RETRY);
    // Browsers do not report why a socket was refused; the status of a poll does.
    return connection.hasResponded ? GRACE : 0;
  }

  #scheduleBetter() {
    const { until } = this.#choice;
    if (until === null) return this.#betterTimer.clear();
    this.#betterTimer.set(until - this.#env.now(), () => {
      this.#choice.reset();
      this.#search({ now: true });
    });
  }

  #stop(show) {
    this.#halt("stopped");
    show();
  }

  #halt(state) {
    this.#state = state;
    for (const timer of [this.#searchTimer, this.#pollTimer, this.#betterTimer]) timer.clear();
    for (const connection of [this.#active, this.#candidate]) connection?.close();
    this.#active = this.#candidate = null;
  }
}

// The client: keeps one live line, looks for a better one, polls while there is none. "The client's rule" of the
// protocol is here; what has failed is choice.js, one attempt is line.js, and how a transport speaks is its own module.

import { Choice } from "./choice.js";
import { Known } from "./known.js";
import { Line } from "./line.js";
import { longpoll } from "./longpoll.js";
import { poll } from "./poll.js";
import { Backoff, Timer, jitter } from "./waits.js";
import { websocket } from "./websocket.js";

const TRANSPORTS = { websocket, longpoll, poll };
const GRACE = 1_000; // a page just rendered, or a quick reconnect, needs no poll
const POLL_AGAIN = 5_000;
const NEW_SESSION = 300; // for the cookie of a new session to arrive
const USEFUL = 30_000;

/**
 * world: url, heartbeat (ms), WebSocket, fetch, now, setTimeout, clearTimeout, random, storage().
 * page: apply(notifications); right(), doubt(), gone() about the connection; signedOut().
 */
export class Client {
  #world;
  #page;
  #since;
  #known;
  #choice;
  #backoff;
  #state = "idle"; // or running, or stopped for good
  #live = null; // the only line that is believed
  #candidate = null; // the line that replaces it once it has answered
  #search; // the next candidate
  #bridge; // the next poll while nothing is live
  #better; // the end of a remembered choice
  #failures = new Map(); // when each transport last ended without an answer
  #quietUntil = 0; // the server wants to be left alone
  #noPollUntil = 0;

  constructor(world, since, page) {
    this.#world = world;
    this.#page = page;
    this.#since = since;
    this.#known = new Known(since, page.apply);
    this.#choice = new Choice(world);
    this.#backoff = new Backoff(world);
    this.#search = new Timer(world);
    this.#bridge = new Timer(world);
    this.#better = new Timer(world);
  }

  start() {
    if (this.#state !== "idle") return;
    this.#state = "running";
    this.#page.doubt();
    this.#seek(true);
    this.#pollIn(GRACE);
    this.#planBetter();
  }

  /** The page is put away; start() takes up from the same cursor. */
  pause() {
    if (this.#state === "running") this.#halt("idle");
  }

  /** Trying is worth while now. `moved`: the network may be another. */
  wake(moved = false) {
    if (this.#state !== "running") return;
    this.#abandon();
    // A socket may have died unnoticed: a new line is opened beside it, and takes over if it answers.
    const doubtful = moved || this.#live?.silent > this.#world.heartbeat;
    if (doubtful || this.#live?.name !== this.#choice.best) this.#search.set(0, () => this.#try());
    this.#pollIn(0);
  }

  /** What has waited in vain, perhaps on another network, must not hold up the next try. */
  #abandon() {
    if (this.#world.now() < this.#quietUntil) return; // there is no next try yet
    const inVain = (line) => line?.first === null && line.silent > GRACE;
    for (const line of [this.#live, this.#candidate].filter(inVain)) line.close();
    if (this.#live?.closed) this.#live = null;
    if (this.#candidate?.closed) this.#candidate = null;
  }

  /** What another answer told: newer values are applied, the cursor stays. */
  merge(notifications) {
    this.#known.merge(notifications);
  }

  #seek(atOnce) {
    if (this.#candidate || this.#live?.name === this.#choice.best) return;
    if (atOnce) this.#search.set(0, () => this.#try());
    else if (!this.#search.pending) this.#search.set(this.#backoff.next(), () => this.#try());
  }

  #try() {
    const quiet = this.#quietUntil - this.#world.now();
    const name = this.#choice.best;
    if (quiet > 0) this.#search.set(quiet, () => this.#try());
    else if (name === "poll") this.#pollIn(0);
    else this.#candidate ??= this.#open(name);
  }

  #pollIn(ms) {
    if (!this.#live) this.#bridge.set(ms, () => this.#poll());
  }

  #poll() {
    const quiet = Math.max(this.#quietUntil, this.#noPollUntil) - this.#world.now();
    if (quiet > 0) this.#pollIn(quiet);
    else this.#live = this.#open("poll");
  }

  #open(name) {
    const hears = {
      heard: (...told) => this.#heard(...told),
      late: (line) => this.#late(line),
      ended: (...told) => this.#ended(...told),
    };
    return new Line(this.#world, name, this.#since, hears).open(TRANSPORTS[name]);
  }

  #heard(line, notifications, rest) {
    this.#choice.answered(line.name);
    if (line === this.#candidate) this.#take(line);
    else this.#seek(false); // where the poll has answered for a session that ended, nobody is looking yet
    if (rest) this.#noPollUntil = this.#world.now() + rest;
    this.#page.right();
    this.#known.follow(notifications, line.since);
    line.since = this.#since = notifications.at(-1)?.timestamp ?? line.since;
  }

  #take(line) {
    this.#live?.close();
    this.#live = line;
    this.#candidate = null;
    this.#search.clear();
    this.#bridge.clear();
    this.#seek(false);
  }

  #late(line) {
    if (line.name === "poll") return; // there is nothing plainer to try
    line.close();
    this.#release(line);
    this.#seek(this.#choice.failed(line, this.#proves(line)));
    this.#planBetter();
  }

  #ended(line, { status, wait }) {
    if (status === 401) return this.#signedOut(line);
    if (status === 403) return this.#stop(() => this.#page.gone());
    this.#release(line);
    if (wait) this.#quietUntil = this.#world.now() + wait;
    this.#seek(this.#judge(line, status, wait));
    this.#pollIn(this.#pollDelay(line));
    this.#planBetter();
  }

  /** A line's session has ended. The browser may have another by now (a new password gives one): the poll tells. */
  #signedOut(line) {
    if (line.name === "poll") return this.#stop(() => this.#page.signedOut());
    this.#release(line);
    this.#pollIn(NEW_SESSION);
  }

  #release(line) {
    if (line === this.#live) {
      this.#live = null;
      this.#page.doubt();
      return;
    }
    this.#candidate = null;
    // It was opened beside its like because that was doubtful, and has not removed the doubt.
    if (this.#live?.name === line.name) this.#live.ended({ status: 0 });
  }

  /** What the end of a line says about its transport. True when the next one is to be tried. */
  #judge(line, status, wait) {
    const polling = line.name === "poll";
    if (line.lived >= USEFUL && !polling) this.#backoff.reset();
    if (status === 429) return !polling && this.#choice.limited();
    if (polling || this.#speaksForAll(line, status, wait)) this.#choice.away();
    else if (line.name === "longpoll" && line.first === null) this.#choice.doubt(line);
    return this.#choice.died(line, this.#proves(line));
  }

  /** Whether what befell `line` befalls every question. While another line is healthy only the server's word counts. */
  #speaksForAll({ name, first }, status, wait) {
    if (first === null && this.#live?.first) return status === 503 && Boolean(wait);
    return status === 503 || (name === "longpoll" && first === null);
  }

  /** Notes a failure without an answer. Whether the server is known to have answered. A page that slept knows nothing. */
  #proves(line) {
    if (line.first !== null) return true;
    const before = this.#failures.get(line.name) ?? -Infinity;
    this.#failures.set(line.name, this.#world.now());
    if (!this.#live?.first || line.overslept) return false;
    // A poll proves nothing about the time to the next: two failures between them may be one outage.
    return this.#live.name !== "poll" || this.#live.seen > before;
  }

  #pollDelay(line) {
    if (line.name === "poll") return jitter(this.#world, POLL_AGAIN);
    // A browser is not told why a socket was refused; the poll is.
    return line.first === null ? 0 : GRACE;
  }

  #planBetter() {
    const { until } = this.#choice;
    if (until === null) return this.#better.clear();
    this.#better.set(until - this.#world.now(), () => {
      this.#choice.retry();
      this.#seek(true);
    });
  }

  #stop(tell) {
    this.#halt("stopped");
    tell();
  }

  #halt(state) {
    this.#state = state;
    for (const timer of [this.#search, this.#bridge, this.#better]) timer.clear();
    for (const line of [this.#live, this.#candidate]) line?.close();
    this.#live = this.#candidate = null;
  }
}

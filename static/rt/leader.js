// One connection for all pages of one account in a browser: the page that holds a Web Lock leads, which means that it
// runs the client and broadcasts what it knows. The others follow. A visible page leads if there is one.
// See also: docs/protocol.md, "One connection per browser".
//
// Two kinds of message: { kind: "hello", joined, wake }, to which the leader answers, and its
// { kind: "state", connection, visible, restored, cursor, from, notifications }.

import { Client } from "./client.js";
import { requestNotifications } from "./request.js";
import { Timer } from "./timers.js";

const ANSWER = 1_000; // a leader that does not answer a hello for so long is replaced
const SILENCE = 2.5; // heartbeats
const POLL_TIMEOUT = 10_000;
const POLL_RETRY = 5_000;

/**
 * The same interface as Client. env: also account (a string), visible(), locks and openChannel(name). Without the last
 * two each page has its own connection, and a hidden page polls.
 * page: also resumed(), for the first response after signedOut().
 */
export class Leader {
  #env;
  #page;
  #client;
  #role = "paused"; // "paused", "alone", "following" or "leading"
  #channel = null;
  #lock = null; // aborting it cancels the request, or releases the lock
  #connection = null; // what the page shows: "online", "reconnecting", "offline" or "signedOut"
  #leaderHidden = false;
  #leaderTimer; // replaces a leader that is not heard of any more
  #catchUp = null; // a poll for what the leader cannot know
  #catchUpTimer;

  constructor(env, since, page) {
    this.#env = { ...env, pollsOnly: () => this.#role === "alone" && !env.visible() };
    this.#page = page;
    this.#leaderTimer = new Timer(env);
    this.#catchUpTimer = new Timer(env);
    this.#client = new Client(this.#env, since, {
      apply: page.apply,
      online: (restored) => this.#report("online", restored),
      reconnecting: () => this.#report("reconnecting"),
      offline: () => this.#report("offline"),
      signedOut: () => this.#report("signedOut"),
    });
  }

  /** The cursor. */
  get since() {
    return this.#client.known.cursor;
  }

  /** Whether this page leads, and the application has refused it. */
  get stopped() {
    return this.#client.state === "stopped";
  }

  start() {
    if (this.#role !== "paused") return;
    if (!this.#env.locks || !this.#env.openChannel) return this.#startAlone();
    this.#role = "following";
    this.#channel = this.#env.openChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    this.#requestLock();
    this.#greet({ joined: true });
  }

  /** Releases the lock and closes all connections. start() continues from the same cursor. */
  pause() {
    this.#role = "paused";
    this.#lock?.abort();
    this.#channel?.close();
    this.#leaderTimer.clear();
    this.#cancelCatchUp();
    this.#lock = this.#channel = null;
    this.#client.pause();
  }

  /** Tries again at once, if this page leads or is visible. */
  wake(options) {
    if (this.#role === "leading" || this.#role === "alone") this.#client.wake(options);
    if (this.#role !== "following" || !this.#env.visible()) return;
    if (this.#leaderHidden) this.#requestLock({ steal: true });
    else this.#greet({ wake: true });
  }

  /** The browser says that it is offline: shown at once, until the next response. */
  offline() {
    this.#show("offline");
  }

  visibilityChanged() {
    if (this.#env.visible()) return this.wake();
    if (this.#role === "leading") this.#broadcast();
    if (this.#role !== "alone") return;
    this.#client.pause();
    this.#client.start();
  }

  merge(notifications) {
    this.#client.merge(notifications);
  }

  get #name() {
    return `microblog-rt:${this.#env.account}`;
  }

  #startAlone() {
    this.#role = "alone";
    this.#leaderTimer.clear();
    this.#channel?.close();
    this.#client.start();
  }

  #requestLock({ steal = false } = {}) {
    this.#lock?.abort();
    const lock = (this.#lock = new AbortController());
    const hold = () => {
      if (lock.signal.aborted) return undefined;
      const released = new Promise((release) => lock.signal.addEventListener("abort", release));
      this.#lead();
      return released;
    };
    const options = steal ? { steal } : { signal: lock.signal };
    this.#env.locks.request(this.#name, options, hold).catch((error) => lock.signal.aborted || this.#lost(error));
  }

  #lead() {
    this.#role = "leading";
    this.#leaderTimer.clear();
    this.#cancelCatchUp();
    this.#client.start();
  }

  /** Another page has taken the lock, or the browser forbids locks. */
  #lost({ name }) {
    this.#client.pause();
    if (name !== "AbortError") return this.#startAlone();
    this.#role = "following";
    this.#requestLock();
    this.#greet();
  }

  #greet({ joined = false, wake = false } = {}) {
    this.#channel.postMessage({ kind: "hello", joined, wake });
    this.#leaderTimer.set(ANSWER, () => this.#requestLock({ steal: true }));
  }

  #heard(message) {
    if (this.#role === "leading" && message.kind === "hello") {
      // A page that joins has a session.
      if (message.wake || (message.joined && this.#client.state === "stopped")) this.#client.wake();
      this.#broadcast();
    }
    if (this.#role === "following" && message.kind === "state") this.#follow(message);
  }

  #follow(message) {
    this.#leaderHidden = !message.visible;
    this.#leaderTimer.set(SILENCE * this.#env.heartbeat, () => this.#greet());
    this.#adopt(message);
    if (message.connection) this.#show(message.connection);
    if (this.#leaderHidden && this.#env.visible()) this.#requestLock({ steal: true });
  }

  #adopt(message) {
    if (this.#client.adopt(message, message.restored) || this.#catchUp || this.#catchUpTimer.pending) return;
    const request = { since: this.#client.known.cursor, timeout: POLL_TIMEOUT };
    this.#catchUp = requestNotifications(this.#env, request, ({ status, notifications }) => {
      this.#catchUp = null;
      this.#catchUpTimer.set(POLL_RETRY, () => this.#greet());
      if (status !== 200) return;
      // The poll is newer than the message, so this page now knows everything from its own cursor to the message's.
      this.#client.adopt({ cursor: message.cursor, from: this.#client.known.from, notifications });
      this.#greet(); // what the leader has sent meanwhile was not adopted
    });
  }

  #cancelCatchUp() {
    this.#catchUp?.close();
    this.#catchUp = null;
    this.#catchUpTimer.clear();
  }

  #report(connection, restored = false) {
    this.#show(connection);
    if (this.#role === "leading") this.#broadcast(restored);
  }

  /** "Signed out" remains until a response: a page without a session shows nothing else. */
  #show(connection) {
    const wasSignedOut = this.#connection === "signedOut";
    if (wasSignedOut && connection !== "online") return;
    this.#connection = connection;
    if (wasSignedOut) this.#page.resumed();
    this.#page[connection]();
  }

  #broadcast(restored = false) {
    const visible = this.#env.visible();
    this.#channel.postMessage({ kind: "state", connection: this.#connection, visible, restored, ...this.#client.known });
  }
}

// What the browser module needs from a browser and a server: a clock that tests advance, a server with one counter
// behind a network that can fail, and a page that records what it shows. No test waits in real time.

import { Client } from "../../static/rt/client.js";
import { longpoll } from "../../static/rt/longpoll.js";
import { poll } from "../../static/rt/poll.js";
import { sse } from "../../static/rt/sse.js";
import { websocket } from "../../static/rt/websocket.js";

export class FakeClock {
  #time = 1_000_000; // milliseconds since the page was loaded
  #wallClockAhead = 1_700_000_000_000;
  #timers = new Map();
  #ids = 0;

  now = () => this.#time;
  wallClock = () => this.#time + this.#wallClockAhead;

  setTimeout = (callback, ms) => {
    this.#timers.set(++this.#ids, { callback, due: this.#time + ms, id: this.#ids });
    return this.#ids;
  };

  clearTimeout = (id) => this.#timers.delete(id);

  /** Advances the time, runs the timers that are due, and lets promises settle after each. */
  async advance(ms) {
    const end = this.#time + ms;
    await settle();
    for (let next = this.#next(end); next; next = this.#next(end)) {
      this.#timers.delete(next.id);
      this.#time = Math.max(this.#time, next.due);
      next.callback();
      await settle();
    }
    this.#time = end;
  }

  /** Advances the time without running timers, as while a page is frozen. */
  suspend(ms) {
    this.#time += ms;
  }

  /** Advances the wall clock only: it is set, or the device sleeps. */
  shiftWallClock(ms) {
    this.#wallClockAhead += ms;
  }

  #next(end) {
    const due = [...this.#timers.values()].filter((timer) => timer.due <= end);
    return due.sort((a, b) => a.due - b.due || a.id - b.id)[0];
  }
}

const REFUSALS = { signed_out: 401, forbidden: 403 };
const PROBLEM = { "Content-Type": "application/problem+json" };
const settle = () => new Promise((done) => setImmediate(done));

/**
 * A server with one counter. `websocket`, `sse`, `longpoll` and `poll` set how the network treats each transport: "ok",
 * "refused", "silent" or { killAfter: ms }; for the last three also { status, headers, body }, a fixed response, or the code
 * of a refusal, "signed_out" or "forbidden".
 */
export class FakeServer {
  websocket = "ok";
  sse = "ok";
  longpoll = "ok";
  poll = "ok";
  pollAfter = "5";
  latency = 10;
  heartbeat = 20_000;
  sockets = []; // the open ones
  streams = []; // the open ones
  handshakes = []; // all sockets, open or not
  requests = []; // { at, kind, since, hold } of every request and handshake
  responses = 0; // responses with status 200
  #clock;
  #rows = [];
  #held = new Set();

  constructor(clock) {
    this.#clock = clock;
    this.time = 1000.5;
  }

  get row() {
    return this.#rows[0];
  }

  count(kind) {
    return this.requests.filter((request) => request.kind === kind).length;
  }

  /** Commits a new count and delivers it. */
  publish(data) {
    this.time += 1.000001;
    this.#rows = [{ name: "unread_message_count", data, timestamp: this.time }];
    for (const each of [...this.sockets, ...this.streams]) each.deliverNewer();
    for (const held of [...this.#held]) held();
  }

  newerThan(cursor) {
    return cursor > this.time ? this.#rows : this.#rows.filter(({ timestamp }) => timestamp > cursor);
  }

  /** Closes all connections and refuses new ones, like a server that restarts. */
  down({ code = 1006, reason = "" } = {}) {
    this.websocket = this.sse = this.longpoll = this.poll = "refused";
    for (const stream of [...this.streams]) stream.fail();
    for (const socket of [...this.sockets]) socket.closeWith(code, reason);
    for (const held of [...this.#held]) held("refused");
  }

  up() {
    this.websocket = this.sse = this.longpoll = this.poll = "ok";
  }

  after(ms, callback) {
    this.#clock.setTimeout(callback, ms);
  }

  fetch = async (href, { signal, headers }) => {
    const query = new URL(href).searchParams;
    const hold = query.has("wait") ? Number(query.get("wait")) : undefined;
    const kind = headers.Accept === "text/event-stream" ? "sse" : hold === undefined ? "poll" : "longpoll";
    const authorization = headers.Authorization;
    this.requests.push({ at: this.#clock.now(), kind, since: query.get("since"), hold, authorization });
    const behaviour = this[kind];
    await this.#delay(behaviour === "silent" ? Infinity : this.latency, signal);
    if (behaviour === "refused") throw new TypeError("Failed to fetch");
    if (behaviour.status) return response(behaviour.status, behaviour.body ?? {}, behaviour.headers ?? {});
    if (REFUSALS[behaviour]) return response(REFUSALS[behaviour], { code: behaviour }, PROBLEM);
    const since = Number(query.get("since"));
    if (kind === "sse") return this.#stream(since, behaviour, signal);
    if (hold && !this.newerThan(since).length) await this.#hold(hold * 1000, behaviour.killAfter, signal);
    this.responses++;
    return response(200, this.newerThan(since), { "Poll-After": this.pollAfter });
  };

  #stream(cursor, { killAfter }, signal) {
    const stream = new FakeStream(this, cursor);
    signal.addEventListener("abort", () => stream.fail());
    if (killAfter !== undefined) this.after(killAfter, () => stream.fail());
    const headers = { "Content-Type": "text/event-stream", ...(this.heartbeatHeader && { Heartbeat: this.heartbeatHeader }) };
    return { ...response(200, null, headers), body: stream.body };
  }

  #delay(ms, signal) {
    return new Promise((done, fail) => {
      signal.addEventListener("abort", () => fail(signal.reason));
      if (ms < Infinity) this.after(ms, done);
    });
  }

  #hold(ms, killAfter, signal) {
    return new Promise((done, fail) => {
      const held = (behaviour) => {
        this.#held.delete(held);
        if (behaviour === "refused") fail(new TypeError("Failed to fetch"));
        else done();
      };
      this.#held.add(held);
      signal.addEventListener("abort", () => fail(signal.reason));
      this.after(ms, held);
      if (killAfter !== undefined) this.after(killAfter, () => held("refused"));
    });
  }
}

function response(status, body, headers) {
  return { status, ok: status < 300, headers: new Headers(headers), json: async () => body };
}

/** The body of a response with server-sent events. Tests call write(), end() and fail() as the server. */
class FakeStream {
  #server;
  #controller;

  constructor(server, cursor) {
    this.#server = server;
    this.cursor = cursor;
    this.body = new ReadableStream({ start: (controller) => (this.#controller = controller) });
    server.streams.push(this);
    this.write(":\nretry: 1500\n");
    this.deliverNewer();
    this.#sendHeartbeats();
  }

  get open() {
    return this.#server.streams.includes(this);
  }

  write(text) {
    if (this.open) this.#controller.enqueue(new TextEncoder().encode(text));
  }

  deliverNewer() {
    for (const row of this.#server.newerThan(this.cursor)) {
      this.cursor = row.timestamp;
      this.write(`id: ${row.timestamp}\ndata: ${JSON.stringify(row)}\n\n`);
    }
  }

  end() {
    this.#remove() && this.#controller.close();
  }

  fail() {
    this.#remove() && this.#controller.error(new TypeError("network error"));
  }

  #remove() {
    const wasOpen = this.open;
    this.#server.streams = this.#server.streams.filter((stream) => stream !== this);
    return wasOpen;
  }

  #sendHeartbeats() {
    this.#server.after(this.#server.heartbeat, () => {
      if (!this.open) return;
      this.write(":\n");
      this.#sendHeartbeats();
    });
  }
}

/** The WebSocket class of the fake browser. Tests call accept(), deliver() and closeWith() as the server. */
function fakeWebSocket(server, clock) {
  return class FakeWebSocket {
    onmessage = null;
    onclose = null;
    sent = [];
    open = false;

    constructor(href) {
      this.url = new URL(href);
      server.handshakes.push(this);
      this.cursor = Number(this.url.searchParams.get("since"));
      server.requests.push({ at: clock.now(), kind: "websocket", since: this.url.searchParams.get("since") });
      const behaviour = server.websocket;
      if (behaviour === "silent") return;
      server.after(server.latency, () => (behaviour === "refused" ? this.closeWith(1006) : this.accept(behaviour)));
    }

    accept({ killAfter }) {
      if (this.closed) return;
      server.sockets.push(this);
      this.open = true;
      this.deliverNewer({ first: true });
      this.sendHeartbeats();
      if (killAfter !== undefined) server.after(killAfter, () => this.closeWith(1006));
    }

    deliverNewer({ first = false } = {}) {
      const rows = server.newerThan(this.cursor);
      if (rows.length) this.cursor = rows.at(-1).timestamp;
      if (rows.length || first) this.deliver(JSON.stringify(rows));
    }

    sendHeartbeats() {
      server.after(server.heartbeat, () => {
        if (!this.open) return;
        this.deliver("[]");
        this.sendHeartbeats();
      });
    }

    deliver(data) {
      this.onmessage?.({ data });
    }

    closeWith(code, reason = "") {
      this.open = false;
      server.sockets = server.sockets.filter((socket) => socket !== this);
      this.onclose?.({ code, reason });
    }

    send(data) {
      this.sent.push(data);
    }

    close() {
      this.open = false;
      this.closed = true;
      server.sockets = server.sockets.filter((socket) => socket !== this);
    }
  };
}

export class FakeStorage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => this.items.set(key, value);
  removeItem = (key) => this.items.delete(key);
}

/** Web Locks and BroadcastChannel of one browser, which its pages share. */
export class FakeBrowser {
  #clock;
  #locks = new Map(); // by name: { held, queue } of requests { hold, reject }
  #channels = new Set();
  messages = []; // { name, data } of every message sent

  constructor(clock) {
    this.#clock = clock;
  }

  get locks() {
    return { request: (...request) => this.#request(...request) };
  }

  openChannel = (name) => {
    const channel = {
      onmessage: null,
      postMessage: (data) => this.#send(name, channel, structuredClone(data)),
      close: () => this.#channels.delete(channel),
      name,
    };
    this.#channels.add(channel);
    return channel;
  };

  #send(name, sender, data) {
    this.messages.push({ name, data });
    for (const channel of this.#channels) {
      if (channel === sender || channel.name !== name) continue;
      this.#clock.setTimeout(() => this.#channels.has(channel) && channel.onmessage?.({ data }), 1);
    }
  }

  #request(name, { steal = false, signal }, hold) {
    return new Promise((resolve, reject) => {
      const request = { hold, resolve, reject };
      if (!this.#locks.has(name)) this.#locks.set(name, { held: null, queue: [] });
      const lock = this.#locks.get(name);
      if (steal) {
        lock.queue.unshift(request);
        lock.held?.reject(new DOMException("stolen", "AbortError"));
        lock.held = null;
      } else {
        lock.queue.push(request);
        signal.addEventListener("abort", () => {
          if (!lock.queue.includes(request)) return;
          lock.queue = lock.queue.filter((each) => each !== request);
          reject(signal.reason);
        });
      }
      this.#clock.setTimeout(() => this.#grant(lock), 1);
    });
  }

  async #grant(lock) {
    if (lock.held || !lock.queue.length) return;
    const request = (lock.held = lock.queue.shift());
    request.resolve(await request.hold());
    if (lock.held !== request) return; // stolen
    lock.held = null;
    this.#grant(lock);
  }
}

/** The transports of a client with a token. */
export const WITH_TOKEN = { sse, longpoll, poll };

/** A page with its client, clock and server. `random` returns 0.5 unless it is given. */
export function makeTab({
  since = 1000.25,
  clock = new FakeClock(),
  server = new FakeServer(clock),
  storage = new FakeStorage(),
  ClientClass = Client,
  transports = { websocket, longpoll, poll },
  ...overrides
} = {}) {
  const page = { badge: null, applied: [], events: [], visible: true };
  const record = (event) => () => page.events.push(event);
  const view = {
    apply(notifications) {
      page.applied.push(notifications);
      page.badge = notifications.at(-1).data;
    },
    online: record("online"),
    reconnecting: record("reconnecting"),
    offline: record("offline"),
    signedOut: record("signedOut"),
    resumed: record("resumed"),
  };
  const env = {
    url: "https://example.org/notifications",
    heartbeat: 20_000,
    transports,
    WebSocket: fakeWebSocket(server, clock),
    fetch: server.fetch,
    now: clock.now,
    wallClock: clock.wallClock,
    pollsOnly: () => false,
    account: "7",
    visible: () => page.visible,
    setTimeout: clock.setTimeout,
    clearTimeout: clock.clearTimeout,
    random: () => 0.5,
    storage: () => storage,
    ...overrides,
  };
  return { client: new ClientClass(env, since, view), clock, server, storage, env, page };
}

/** A started tab that has received its first response. */
export async function startTab(options) {
  const tab = makeTab(options);
  tab.client.start();
  await tab.clock.advance(100);
  return tab;
}

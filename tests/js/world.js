// A world for the browser module without a browser: a clock that moves when told, a server with its network between,
// and the page the module would speak to. Nothing here waits for real time.

import { Client } from "../../static/rt/client.js";

export class Clock {
  #time = 1_700_000_000_000;
  #timers = new Map();
  #ids = 0;

  now = () => this.#time;

  setTimeout = (act, ms) => {
    this.#timers.set(++this.#ids, { act, due: this.#time + ms, id: this.#ids });
    return this.#ids;
  };

  clearTimeout = (id) => this.#timers.delete(id);

  /** Moves on, timer by timer, and lets every promise settle between them. */
  async pass(ms) {
    const end = this.#time + ms;
    await settle();
    for (let next = this.#next(end); next; next = this.#next(end)) {
      this.#timers.delete(next.id);
      this.#time = Math.max(this.#time, next.due);
      next.act();
      await settle();
    }
    this.#time = end;
  }

  /** Time passes and no timer runs: a frozen tab, a closed lid. */
  sleep(ms) {
    this.#time += ms;
  }

  #next(end) {
    const due = [...this.#timers.values()].filter((timer) => timer.due <= end);
    return due.sort((a, b) => a.due - b.due || a.id - b.id)[0];
  }
}

const settle = () => new Promise((done) => setImmediate(done));

/**
 * A server with one counter, and what the network does to each transport: `websocket`, `longpoll` and `poll` are "ok",
 * "refused", "silent", or { killAfter: ms }; an HTTP status and headers as { status, headers } for the last two.
 */
export class Server {
  websocket = "ok";
  longpoll = "ok";
  poll = "ok";
  pollAfter = "5";
  latency = 10;
  heartbeat = 20_000;
  sockets = []; // open ones
  handshakes = []; // all there ever were
  asked = []; // { at, kind, since, hold } of every request and handshake
  answered = 0; // requests, with 200
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
    return this.asked.filter((request) => request.kind === kind).length;
  }

  /** What a commit does. */
  publish(data) {
    this.time += 1.000001;
    this.#rows = [{ name: "unread_message_count", data, timestamp: this.time }];
    for (const socket of this.sockets) socket.wake();
    for (const held of [...this.#held]) held();
  }

  since(cursor) {
    return cursor > this.time ? this.#rows : this.#rows.filter(({ timestamp }) => timestamp > cursor);
  }

  /** The whole server goes, as a restart does it: nothing connects, what was connected dies. */
  down({ code = 1006, reason = "" } = {}) {
    this.websocket = this.longpoll = this.poll = "refused";
    for (const socket of [...this.sockets]) socket.die(code, reason);
    for (const held of [...this.#held]) held("refused");
  }

  up() {
    this.websocket = this.longpoll = this.poll = "ok";
  }

  after(ms, act) {
    this.#clock.setTimeout(act, ms);
  }

  fetch = async (href, { signal }) => {
    const query = new URL(href).searchParams;
    const hold = query.has("wait") ? Number(query.get("wait")) : undefined;
    const kind = hold === undefined ? "poll" : "longpoll";
    this.asked.push({ at: this.#clock.now(), kind, since: query.get("since"), hold });
    const how = this[kind];
    await this.#delay(how === "silent" ? Infinity : this.latency, signal);
    if (how === "refused") throw new TypeError("Failed to fetch");
    if (how.status) return answer(how.status, how.body ?? {}, how.headers ?? {});
    const since = Number(query.get("since"));
    if (hold && !this.since(since).length) await this.#hold(hold * 1000, how.killAfter, signal);
    this.answered++;
    return answer(200, this.since(since), { "Poll-After": this.pollAfter });
  };

  #delay(ms, signal) {
    return new Promise((done, fail) => {
      signal.addEventListener("abort", () => fail(signal.reason));
      if (ms < Infinity) this.after(ms, done);
    });
  }

  #hold(ms, killAfter, signal) {
    return new Promise((done, fail) => {
      const held = (how) => {
        this.#held.delete(held);
        if (how === "refused") fail(new TypeError("Failed to fetch"));
        else done();
      };
      this.#held.add(held);
      signal.addEventListener("abort", () => fail(signal.reason));
      this.after(ms, held);
      if (killAfter !== undefined) this.after(killAfter, () => held("refused"));
    });
  }
}

function answer(status, body, headers) {
  return { status, ok: status < 300, headers: new Headers(headers), json: async () => body };
}

/** The browser's end of a socket; the server's end is told what to do by the test. */
function webSocketOf(server, clock) {
  return class FakeWebSocket {
    onmessage = null;
    onclose = null;
    sent = [];
    open = false;

    constructor(href) {
      this.url = new URL(href);
      server.handshakes.push(this);
      this.cursor = Number(this.url.searchParams.get("since"));
      server.asked.push({ at: clock.now(), kind: "websocket", since: this.url.searchParams.get("since") });
      const how = server.websocket;
      if (how === "silent") return;
      server.after(server.latency, () => (how === "refused" ? this.die(1006) : this.accept(how)));
    }

    accept({ killAfter }) {
      server.sockets.push(this);
      this.open = true;
      this.wake(true);
      this.beat();
      if (killAfter !== undefined) server.after(killAfter, () => this.die(1006));
    }

    wake(first = false) {
      const rows = server.since(this.cursor);
      if (rows.length) this.cursor = rows.at(-1).timestamp;
      if (rows.length || first) this.deliver(JSON.stringify(rows));
    }

    beat() {
      server.after(server.heartbeat, () => {
        if (!this.open) return;
        this.deliver("[]");
        this.beat();
      });
    }

    deliver(data) {
      this.onmessage?.({ data });
    }

    die(code, reason = "") {
      this.open = false;
      server.sockets = server.sockets.filter((socket) => socket !== this);
      this.onclose?.({ code, reason });
    }

    send(data) {
      this.sent.push(data);
    }

    close() {
      this.open = false;
      server.sockets = server.sockets.filter((socket) => socket !== this);
    }
  };
}

export class Storage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => this.items.set(key, value);
  removeItem = (key) => this.items.delete(key);
}

/** A page with its client, its clock and its server; `random` is 1/2 for ever unless told otherwise. */
export function tab({ since = 1000.25, clock = new Clock(), server = new Server(clock), storage = new Storage(), ...more } = {}) {
  const seen = { badge: null, applied: [], events: [] };
  const tell = (event) => () => seen.events.push(event);
  const page = {
    apply(notifications) {
      seen.applied.push(notifications);
      seen.badge = notifications.at(-1).data;
    },
    right: tell("right"),
    doubt: tell("doubt"),
    gone: tell("gone"),
    signedOut: tell("signedOut"),
  };
  const world = {
    url: "https://example.org/notifications",
    heartbeat: 20_000,
    WebSocket: webSocketOf(server, clock),
    fetch: server.fetch,
    now: clock.now,
    setTimeout: clock.setTimeout,
    clearTimeout: clock.clearTimeout,
    random: () => 0.5,
    storage: () => storage,
    ...more,
  };
  return { client: new Client(world, since, page), clock, server, storage, world, seen };
}

/** A started tab, its first answer heard. */
export async function startedTab(options) {
  const started = tab(options);
  started.client.start();
  await started.clock.pass(100);
  return started;
}

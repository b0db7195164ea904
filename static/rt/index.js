// The API of the npm package: connect(). See also: README.md, index.d.ts.

import { browserEnvironment, followPage } from "./environment.js";
import { Leader } from "./leader.js";
import { longpoll } from "./longpoll.js";
import { poll } from "./poll.js";
import { sse } from "./sse.js";
import { websocket } from "./websocket.js";

const HEARTBEAT = 20; // seconds; the server's default
const TOKEN = /^[\x21-\x7e]+$/; // what a header can have

/** Subscribes to a user's notifications; index.d.ts describes the options. Throws a TypeError if they are invalid. */
export function connect(options) {
  return new Subscription(globalThis.window, checked(globalThis.window, options));
}

class Subscription extends EventTarget {
  #state = "connecting";
  #leader = null;
  #since;
  #apply;
  #target;
  #listeners = new AbortController();

  constructor(window, { since = 0, apply, target, ...options }) {
    super();
    this.#since = since;
    this.#apply = apply;
    this.#target = target;
    this.#start(window, options);
  }

  get state() {
    return this.#state;
  }

  get since() {
    return this.#leader?.since ?? this.#since;
  }

  close() {
    if (this.#state === "closed") return;
    this.#listeners.abort();
    this.#leader?.pause();
    this.#show("closed");
  }

  async #start(window, options) {
    const env = environment(window, options);
    const shared = env.locks && env.openChannel && identity(env.url, options.token);
    if (shared) env.account = await digest(window, shared);
    else env.locks = undefined;
    if (this.#state === "closed") return;
    this.#leader = new Leader(env, this.#since, {
      apply: (notifications) => this.#received(notifications),
      online: () => this.#show("online"),
      reconnecting: () => this.#show("connecting"),
      offline: () => this.#show(this.#leader.stopped ? "forbidden" : "offline"),
      signedOut: () => this.#show("signed-out"),
      resumed() {},
    });
    followPage(window, this.#leader, this.#listeners.signal);
  }

  // The page's functions run in a microtask: the cursor has moved by then, and their errors do not stop the client.

  #received(notifications) {
    queueMicrotask(() => {
      if (this.#state === "closed") return;
      try {
        this.#apply?.(notifications);
      } catch (error) {
        globalThis.window.reportError(error);
      }
      for (const each of notifications) this.#dispatch("microblog:notification", each);
    });
  }

  #show(state) {
    if (state === this.#state) return;
    this.#state = state;
    queueMicrotask(() => this.#dispatch("microblog:state", state));
  }

  #dispatch(type, detail) {
    for (const target of [this, this.#target])
      target?.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

/** The options with a URL object, or a TypeError that says which option is invalid. */
function checked(window, { url, token, cookies = false, since, names = [], apply, target, heartbeat = HEARTBEAT }) {
  const check = (valid, message) => {
    if (!valid) throw new TypeError(message);
  };
  check(url, "connect: url is missing");
  const server = endpoint(url, window.document.baseURI);
  check(!server.username && !server.password, "connect: url must not contain a password");
  check(cookies ? token === undefined : token !== undefined, "connect: give either token or cookies");
  const usable = typeof token === "function" || (typeof token === "string" && TOKEN.test(token));
  check(cookies || usable, "connect: token must be a string of visible ASCII characters, or a function that returns one");
  const own = server.origin === window.location.origin;
  check(!cookies || own, "connect: cookies work on the server's own origin only; use a token");
  check(since === undefined || (Number.isFinite(since) && since >= 0), "connect: since must be a cursor");
  check(Array.isArray(names) && names.every((name) => typeof name === "string"), "connect: names must be strings");
  check(apply === undefined || typeof apply === "function", "connect: apply must be a function");
  for (const name of names) server.searchParams.append("name", name);
  return { url: server, token, since, apply, target, heartbeat };
}

/** The address of the notifications of the server at `url`, which may be this address already. */
function endpoint(url, base) {
  const target = new URL(url, base);
  if (!target.pathname.endsWith("/notifications")) target.pathname = target.pathname.replace(/\/*$/, "/notifications");
  target.hash = "";
  return target;
}

function environment(window, { url, token, heartbeat }) {
  return {
    ...browserEnvironment(window),
    url: url.href,
    heartbeat: heartbeat * 1000,
    // A page cannot set the headers of a WebSocket, so a token is sent with fetch.
    transports: token === undefined ? { websocket, sse, longpoll, poll } : { sse, longpoll, poll },
    token: token && (() => (typeof token === "function" ? token() : token)),
    storageKey: `microblog-rt.transport ${url.origin}`,
  };
}

/** What pages that may share a connection have in common, or null: the account must be the same in all of them. */
function identity(url, token) {
  const isKnown = token === undefined ? new URL(url).searchParams.has("user") : typeof token === "string";
  return isKnown ? `${url} ${token ?? ""}` : null;
}

/** In hexadecimal: the name of a lock must not contain the token. */
async function digest(window, text) {
  const bytes = await window.crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The outbox: messages that were sent on a conversation's page, until the server acknowledges them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Outbox } from "../../static/rt/outbox.js";
import { FakeClock } from "./fake_browser.js";

class SessionStorage extends Map {
  getItem = (key) => this.get(key) ?? null;
  setItem = (key, value) => this.set(key, value);
  removeItem = (key) => this.delete(key);
}

const ADDRESS = "https://example.org/api/v1/messages";
const ACCEPTED = { status: 201, body: { timestamp: 1 } };
const NONE = null; // no answer

/**
 * A tab: its storage outlives a reload, and `answers` are what the network gives, in turn; then it accepts everything.
 * `requests` are { key, token, recipient, body }; `shown` is the last state of each message by its text.
 */
class Tab {
  clock = new FakeClock();
  storage = new SessionStorage();
  navigator = { onLine: true };
  requests = [];
  #keys = 0;

  load(owner, ...answers) {
    this.answers = answers;
    this.shown = {};
    this.reasons = {};
    this.sent = [];
    const env = {
      navigator: this.navigator,
      setTimeout: this.clock.setTimeout,
      clearTimeout: this.clock.clearTimeout,
      tabStorage: () => this.storage,
      key: () => `key-${++this.#keys}`,
      fetch: (url, options) => this.#fetch(url, options),
    };
    this.outbox = new Outbox(
      env,
      { url: ADDRESS, token: () => `token of ${owner}`, owner },
      {
        changed: ({ text, state, reason }) => ((this.shown[text] = state), (this.reasons[text] = reason)),
        sent: ({ text }, message) => (delete this.shown[text], this.sent.push([text, message])),
      },
    );
    return this.outbox;
  }

  async #fetch(url, { method, headers, body, redirect }) {
    assert.deepEqual([url, method, redirect], [ADDRESS, "POST", "error"]);
    const { recipient, body: text } = JSON.parse(body);
    this.requests.push({ key: headers["Idempotency-Key"], token: headers["X-CSRFToken"], recipient, text });
    const { status, headers: sent = {}, body: answer } = await (this.answers.length ? this.answers.shift() : ACCEPTED) ?? {};
    if (!status) throw new TypeError("no connection");
    const type = status < 400 ? "application/json" : "application/problem+json";
    return new Response(JSON.stringify(answer ?? {}), { status, headers: { "Content-Type": type, ...sent } });
  }

  settle() {
    return this.clock.advance(0);
  }

  get texts() {
    return this.requests.map(({ text }) => text);
  }

  get keys() {
    return this.requests.map(({ key }) => key);
  }
}

test("a message is pending until the answer, and then no longer kept", async () => {
  const tab = new Tab();
  let answer;
  const outbox = tab.load("1", new Promise((resolve) => (answer = resolve)));
  outbox.send("susan", "hello");
  await tab.settle();
  assert.deepEqual(tab.shown, { hello: "sending" });
  assert.deepEqual(outbox.to("susan").map(({ text }) => text), ["hello"]);
  answer({ status: 201, body: { timestamp: 5 } });
  await tab.settle();
  assert.deepEqual([tab.shown, tab.sent], [{}, [["hello", { timestamp: 5 }]]]);
  assert.deepEqual([outbox.to("susan"), tab.storage.size], [[], 0]);
  assert.deepEqual(tab.requests, [{ key: "key-1", token: "token of 1", recipient: "susan", text: "hello" }]);
});

test("messages are sent one after the other, each under its own key", async () => {
  const tab = new Tab();
  let answer;
  const outbox = tab.load("1", new Promise((resolve) => (answer = resolve)));
  for (const text of ["one", "two", "three"]) outbox.send("susan", text);
  await tab.settle();
  assert.deepEqual(tab.texts, ["one"]);
  answer(ACCEPTED);
  await tab.settle();
  assert.deepEqual(tab.texts, ["one", "two", "three"]);
  assert.deepEqual(tab.keys, ["key-1", "key-2", "key-3"]);
});

test("a message without an answer has failed, and is sent again under the same key", async () => {
  const tab = new Tab();
  const outbox = tab.load("1", NONE);
  outbox.send("susan", "hello");
  await tab.settle();
  assert.deepEqual([tab.shown, tab.reasons], [{ hello: "failed" }, { hello: "" }]);
  await tab.clock.advance(600_000);
  assert.equal(tab.requests.length, 1);
  outbox.again("key-1");
  assert.equal(tab.shown.hello, "sending");
  await tab.settle();
  assert.deepEqual([tab.keys, tab.sent.length], [["key-1", "key-1"], 1]);
});

test("a failure without an answer fails what follows too, and keeps the order", async () => {
  const tab = new Tab();
  const outbox = tab.load("1", NONE);
  for (const text of ["one", "two"]) outbox.send("susan", text);
  await tab.settle();
  assert.deepEqual([tab.shown, tab.texts], [{ one: "failed", two: "failed" }, ["one"]]);
  outbox.retry();
  await tab.settle();
  assert.deepEqual(tab.texts, ["one", "one", "two"]);
});

for (const [name, answer] of Object.entries({
  "an error of the server": { status: 500 },
  "an answer of a proxy": { status: 403, headers: { "Content-Type": "text/html" } },
  "an ended session": { status: 401 },
})) {
  test(`a message fails without a reason after ${name}`, async () => {
    const tab = new Tab();
    tab.load("1", answer).send("susan", "hello");
    await tab.settle();
    assert.deepEqual([tab.shown, tab.reasons], [{ hello: "failed" }, { hello: "" }]);
    tab.outbox.connection(false);
    tab.outbox.connection(true);
    await tab.settle();
    assert.equal(tab.sent.length, 1);
  });
}

test("a refused message says why, waits for the user, and does not stop the next one", async () => {
  const tab = new Tab();
  const outbox = tab.load("1", { status: 422, body: { detail: "This is the reason." } });
  for (const text of ["refused", "next"]) outbox.send("susan", text);
  await tab.settle();
  assert.deepEqual([tab.shown, tab.reasons.refused], [{ refused: "failed" }, "This is the reason."]);
  assert.deepEqual(tab.sent.map(([text]) => text), ["next"]);
  outbox.retry();
  await tab.settle();
  assert.deepEqual(tab.texts, ["refused", "next"]);
  outbox.discard("key-1");
  assert.deepEqual([outbox.to("susan"), tab.storage.size], [[], 0]);
});

for (const [headers, wait] of [
  [{ "Retry-After": "30" }, 30_000],
  [{}, 5_000],
]) {
  test(`a busy server gets the same request again after ${wait / 1000} s`, async () => {
    const tab = new Tab();
    tab.load("1", { status: 429, headers }).send("susan", "hello");
    await tab.clock.advance(wait - 1);
    assert.deepEqual([tab.shown, tab.requests.length], [{ hello: "sending" }, 1]);
    await tab.clock.advance(1);
    assert.deepEqual([tab.keys, tab.sent.length], [["key-1", "key-1"], 1]);
  });
}

test("messages written offline wait, and are sent in order when the connection is back", async () => {
  const tab = new Tab();
  const outbox = tab.load("1", NONE, NONE, NONE);
  tab.navigator.onLine = false;
  for (const text of ["one", "two", "three"]) {
    outbox.send("susan", text);
    await tab.settle();
  }
  assert.deepEqual(tab.shown, { one: "waiting", two: "waiting", three: "waiting" });
  const tried = tab.requests.length;
  tab.navigator.onLine = true;
  outbox.retry(); // as the event "online" does
  await tab.settle();
  assert.deepEqual(tab.texts.slice(tried), ["one", "two", "three"]);
  assert.equal(new Set(tab.keys).size, 3);
});

test("messages wait while the page has no connection to the server", async () => {
  const tab = new Tab();
  const outbox = tab.load("1", NONE);
  outbox.connection(false);
  outbox.send("susan", "hello");
  await tab.settle();
  assert.deepEqual(tab.shown, { hello: "waiting" });
  outbox.connection(true);
  await tab.settle();
  assert.equal(tab.sent.length, 1);
});

test("a reload keeps what was not acknowledged, with its keys and in its order", async () => {
  const tab = new Tab();
  const outbox = tab.load("1", NONE);
  for (const text of ["one", "two"]) outbox.send("susan", text);
  outbox.send("john", "three");
  await tab.settle();
  const reloaded = tab.load("1");
  assert.deepEqual(reloaded.to("susan").map(({ key, text, state }) => [key, text, state]), [
    ["key-1", "one", "sending"],
    ["key-2", "two", "sending"],
  ]);
  await reloaded.flush();
  assert.deepEqual(tab.keys, ["key-1", "key-1", "key-2", "key-3"]);
  assert.deepEqual([tab.sent.length, tab.storage.size], [3, 0]);
});

test("a reload during a request sends the message again under the same key", async () => {
  const tab = new Tab();
  tab.load("1", new Promise(() => {})).send("susan", "hello");
  await tab.settle();
  await tab.load("1").flush();
  assert.deepEqual(tab.keys, ["key-1", "key-1"]);
});

test("another account of the same browser never sends it", async () => {
  const tab = new Tab();
  tab.load("1", NONE).send("susan", "from one");
  await tab.settle();
  const other = tab.load("2");
  assert.deepEqual(other.to("susan"), []);
  await other.flush();
  other.retry();
  other.send("susan", "from two");
  await tab.settle();
  assert.deepEqual(
    tab.requests.map(({ token, text }) => [token, text]),
    [
      ["token of 1", "from one"],
      ["token of 2", "from two"],
    ],
  );
  await tab.load("1").flush();
  assert.deepEqual([tab.texts.at(-1), tab.requests.at(-1).token, tab.keys.at(-1)], ["from one", "token of 1", "key-1"]);
});

test("a message that was discarded during its request is not shown again", async () => {
  const tab = new Tab();
  let answer;
  const outbox = tab.load("1", new Promise((resolve) => (answer = resolve)));
  outbox.send("susan", "hello");
  await tab.settle();
  outbox.discard("key-1");
  answer({ status: 422 });
  await tab.settle();
  assert.deepEqual([tab.shown, outbox.to("susan")], [{ hello: "sending" }, []]);
});

test("without storage, or with a full one, messages are sent all the same", async () => {
  const full = new Tab();
  full.storage.setItem = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  const blocked = new Tab();
  Object.defineProperty(blocked, "storage", {
    get() {
      throw new DOMException("blocked", "SecurityError");
    },
  });
  for (const tab of [full, blocked]) {
    tab.load("1").send("susan", "hello");
    await tab.settle();
    assert.equal(tab.sent.length, 1);
  }
});

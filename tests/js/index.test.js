// connect(), with a token and a real HTTP server; in a window with the elements of fake_page.js.

import assert from "node:assert/strict";
import { once } from "node:events";
import { afterEach, beforeEach, test } from "node:test";

import { connect } from "../../static/rt/index.js";
import { FakeBrowser, FakeStorage } from "./fake_browser.js";
import { FakeDocument } from "./fake_page.js";
import { NotificationServer } from "./notification_server.js";

let server;
let opened;

beforeEach(async () => {
  server = await new NotificationServer().start();
  opened = [];
  openWindow();
});

afterEach(() => {
  for (const connection of opened) connection.close();
  server.stop();
});

function openWindow(properties = {}) {
  const document = Object.assign(new FakeDocument(), { baseURI: "https://site.example/page" });
  const location = new URL("https://site.example/page");
  const globals = { fetch, performance, setTimeout, clearTimeout };
  const own = { document, location, navigator: {}, localStorage: new FakeStorage() };
  globalThis.window = Object.assign(new EventTarget(), globals, own, properties);
  return globalThis.window;
}

function open(options = {}) {
  const connection = connect({ url: server.url, token: server.token, ...options });
  opened.push(connection);
  return connection;
}

/** Calls `check` now and after each event of `connection` until it returns true. */
function until(connection, check) {
  return new Promise((done) => {
    const verify = () => check() && done();
    for (const type of ["microblog:notification", "microblog:state"]) connection.addEventListener(type, verify);
    verify();
  });
}

const online = (connection) => until(connection, () => connection.state === "online");

test("apply gets 0 1 2 3 0, and an event each", async () => {
  const applied = [];
  const events = [];
  const connection = open({ apply: (notifications) => applied.push(...notifications.map(({ data }) => data)) });
  connection.addEventListener("microblog:notification", ({ detail, bubbles, composed }) =>
    events.push([detail.name, detail.data, bubbles, composed]),
  );
  for (const count of [0, 1, 2, 3, 0]) {
    const number = applied.length;
    server.publish(count);
    await until(connection, () => events.length > number);
  }
  assert.deepEqual(applied, [0, 1, 2, 3, 0]);
  assert.deepEqual(events, [0, 1, 2, 3, 0].map((data) => ["unread_message_count", data, true, true]));
  assert.deepEqual(server.kinds, ["sse"]);
});

test("the token is never in a URL", async () => {
  server.refuses.add("sse");
  server.refuses.add("longpoll");
  const connection = open();
  await online(connection);
  assert.ok(server.targets.length >= 2);
  assert.deepEqual(server.targets.filter((target) => target.includes(server.token)), []);
});

test("since resumes, and is the cursor for the next time", async () => {
  server.publish(1);
  const first = open();
  await until(first, () => first.since > 0);
  first.close();
  server.publish(7, "mentions");
  const received = [];
  const second = open({ since: first.since, apply: (notifications) => received.push(...notifications) });
  await until(second, () => received.length > 0);
  assert.deepEqual(received.map(({ name, data }) => [name, data]), [["mentions", 7]]);
  assert.ok(second.since > first.since);
});

test("names select notifications", async () => {
  server.publish(1);
  server.publish(2, "mentions");
  server.publish(3, "likes");
  const received = [];
  const connection = open({ names: ["mentions", "likes"], apply: (notifications) => received.push(...notifications) });
  await until(connection, () => received.length > 1);
  assert.deepEqual(received.map(({ name }) => name), ["mentions", "likes"]);
});

test("a cut connection is opened again and repeats nothing", async () => {
  const received = [];
  const connection = open({ apply: (notifications) => received.push(...notifications) });
  server.publish(1);
  await until(connection, () => received.length === 1);
  server.cut();
  server.publish(2);
  await until(connection, () => received.length === 2);
  assert.deepEqual(received.map(({ data }) => data), [1, 2]);
});

test("an invalid token ends as signed-out, a new one resumes", async () => {
  const { document } = globalThis.window;
  let token = "old";
  const connection = open({ token: async () => token });
  const states = [];
  connection.addEventListener("microblog:state", ({ detail }) => states.push(detail));
  await until(connection, () => connection.state === "signed-out");
  token = server.token;
  document.dispatchEvent(new Event("visibilitychange"));
  await online(connection);
  assert.deepEqual(states, ["signed-out", "online"]);
});

test("a function gives each request a fresh token", async () => {
  let issued = 0;
  const connection = open({ token: () => `t${(issued += 1)}` });
  server.token = "t2"; // the first is refused, and the poll that asks again has the second
  await online(connection);
  assert.equal(connection.state, "online");
});

test("close() ends requests and events", async () => {
  const events = [];
  const connection = open();
  await online(connection);
  connection.addEventListener("microblog:notification", (event) => events.push(event));
  connection.close();
  connection.close();
  server.publish(1);
  const { window } = globalThis;
  window.dispatchEvent(new Event("online"));
  const other = open();
  await until(other, () => other.since > 0);
  assert.deepEqual([connection.state, events, connection.since], ["closed", [], 0]);
});

test("close() before the connection has started leaves nothing open", async () => {
  const connection = open();
  connection.close();
  const other = open();
  await online(other);
  assert.equal(server.kinds.length, 1);
});

test("an error in apply is reported and stops nothing", async () => {
  const reported = [];
  openWindow({ reportError: ({ message }) => reported.push(message) });
  const seen = [];
  const connection = open({
    apply() {
      throw new Error("a bug of the page");
    },
  });
  connection.addEventListener("microblog:notification", ({ detail }) => seen.push(detail.data));
  for (const count of [1, 2]) {
    server.publish(count);
    await until(connection, () => seen.at(-1) === count);
  }
  assert.deepEqual(reported, ["a bug of the page", "a bug of the page"]);
});

test("events are also dispatched at the target", async () => {
  const target = new EventTarget();
  const seen = [];
  for (const type of ["microblog:notification", "microblog:state"])
    target.addEventListener(type, ({ detail }) => seen.push(detail.data ?? detail));
  const connection = open({ target });
  await online(connection);
  server.publish(4);
  await until(connection, () => connection.since > 0);
  assert.deepEqual(seen, ["online", 4]);
});

test("two connections with one token share one request; the lock does not have its name", async () => {
  const shared = new FakeBrowser({ setTimeout });
  const names = [];
  const { request } = shared.locks;
  const locks = { request: (name, ...rest) => (names.push(name), request(name, ...rest)) };
  class BroadcastChannel {
    constructor(name) {
      return shared.openChannel(name);
    }
  }
  openWindow({ navigator: { locks }, BroadcastChannel, crypto });
  const received = [[], []];
  const connections = received.map((list) => open({ apply: (each) => list.push(...each.map(({ data }) => data)) }));
  await Promise.all(connections.map(online));
  server.publish(5);
  await Promise.all(connections.map((each, i) => until(each, () => received[i].length)));
  assert.deepEqual([received, server.kinds], [[[5], [5]], ["sse"]]);
  assert.ok(names.length >= 2 && names.every((name) => /^microblog-rt:[0-9a-f]{64}$/.test(name)), names);
  assert.equal(new Set(names).size, 1);
});

test("a failed transport is remembered under the server's address", async () => {
  server.refuses.add("sse");
  const connection = open();
  const { localStorage } = globalThis.window;
  await online(connection);
  while (!server.kinds.includes("longpoll")) await once(server, "request");
  await until(connection, () => connection.state === "online");
  server.publish(1);
  await until(connection, () => connection.since > 0);
  assert.deepEqual([...localStorage.items.keys()], [`microblog-rt.transport ${server.url}`]);
});

for (const [mistake, options, message] of [
  ["no url", { url: "" }, /url is missing/],
  ["a password in the url", { url: "https://a:b@chat.example" }, /must not contain a password/],
  ["neither token nor cookies", { token: undefined }, /either token or cookies/],
  ["both token and cookies", { cookies: true }, /either token or cookies/],
  ["a token with a space", { token: "a b" }, /visible ASCII/],
  ["an empty token", { token: "" }, /visible ASCII/],
  ["cookies on another origin", { token: undefined, cookies: true }, /own origin only/],
  ["a since that is no cursor", { since: NaN }, /since must be a cursor/],
  ["names that are no strings", { names: "mentions" }, /names must be strings/],
  ["an apply that is no function", { apply: 1 }, /apply must be a function/],
]) {
  test(`connect() throws a TypeError for ${mistake}`, () => {
    assert.throws(() => open(options), (error) => error instanceof TypeError && message.test(error.message));
  });
}

test("cookies: a WebSocket to the page's own server", async () => {
  const opening = new EventTarget();
  class WebSocket {
    constructor(href) {
      opening.dispatchEvent(new CustomEvent("open", { detail: href }));
    }

    close() {}
  }
  openWindow({ WebSocket });
  const opened = once(opening, "open");
  const connection = open({ url: "/chat/", token: undefined, cookies: true, since: 5.5, names: ["mentions"] });
  const [{ detail }] = await opened;
  assert.equal(detail, "wss://site.example/chat/notifications?name=mentions&since=5.5");
  assert.equal(connection.state, "connecting");
});

// The entry, in a window that has just what a signed-in page has.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Document, Element, readForm } from "./page.js";
import { Clock, Storage } from "./world.js";

class FakeSocket {
  static all = [];
  sent = [];

  constructor(href) {
    this.href = href;
    FakeSocket.all.push(this);
  }

  close() {
    this.closed = true;
  }

  send(data) {
    this.sent.push(data);
  }
}

function pageOf() {
  const { form, button } = readForm();
  const elements = { "#mark_read": form };
  for (const id of ["#message_count", "#connection", "#signed_out", "#new_messages"]) elements[id] = new Element({}, { hidden: true });
  elements["#message_count"].textContent = "2";
  elements["#connection"].dataset.text = "known at {time}";
  const document = new Document(elements, [new Element({ datetime: "2024-11-22T19:04:59+00:00" })]);
  document.body.dataset = { notifications: "/notifications", since: "1732284183.123456", heartbeat: "20" };
  return { document, elements, button };
}

let imported = 0;

async function opened(change = () => {}) {
  FakeSocket.all = [];
  const { document, elements, button } = pageOf();
  const fetch = async () => ({ ok: true, json: async () => [{ name: "unread_message_count", data: 0, timestamp: 1732284190.5 }] });
  const location = { href: "https://example.org/messages?page=2" };
  const window = Object.assign(new EventTarget(), { document, fetch, location, WebSocket: FakeSocket, localStorage: new Storage() });
  const clock = new Clock();
  window.setTimeout = clock.setTimeout;
  window.clearTimeout = clock.clearTimeout;
  change(window);
  globalThis.window = window;
  await import(`../../static/rt/main.js?${imported++}`);
  await clock.pass(0);
  return { window, clock, document, elements, button };
}

const frame = (data, timestamp) => ({ data: JSON.stringify([{ name: "unread_message_count", data, timestamp }]) });
const pageshow = (persisted) => Object.assign(new Event("pageshow"), { persisted });

test("a signed-in page listens from its rendered cursor, marks what is seen, and shows what it is told", async () => {
  const { elements, button, document } = await opened();
  assert.deepEqual(FakeSocket.all.map(({ href }) => href), ["wss://example.org/notifications?since=1732284183.123456"]);
  assert.deepEqual([elements["#message_count"].textContent, elements["#message_count"].hidden, button.hidden], ["0", true, true]);
  assert.match(document.times[0].textContent, /2024/);
  FakeSocket.all[0].onmessage(frame(1, 1732284200.25));
  assert.deepEqual([elements["#message_count"].textContent, elements["#message_count"].hidden], ["1", false]);
  assert.equal(elements["#new_messages"].hidden, false);
});

test("a session that ended is shown, and nothing more is asked", async () => {
  const { elements, window, clock } = await opened();
  FakeSocket.all[0].onmessage({ data: "[]" });
  window.fetch = async () => ({ status: 401, headers: new Headers() });
  FakeSocket.all[0].onclose({ code: 4401, reason: "" });
  await clock.pass(500);
  assert.equal(elements["#signed_out"].hidden, false);
});

test("a page put away closes its socket; shown again from the browser's memory it opens one", async () => {
  const { window, clock } = await opened();
  window.dispatchEvent(pageshow(false));
  assert.equal(FakeSocket.all.length, 1);
  window.dispatchEvent(new Event("pagehide"));
  assert.equal(FakeSocket.all[0].closed, true);
  window.dispatchEvent(pageshow(true));
  await clock.pass(0);
  assert.equal(FakeSocket.all.length, 2);
});

test("the network's return opens a second socket", async () => {
  const { window, clock } = await opened();
  FakeSocket.all[0].onmessage({ data: "[]" });
  window.dispatchEvent(new Event("online"));
  await clock.pass(0);
  assert.equal(FakeSocket.all.length, 2);
});

test("a page that is being prerendered waits until it is shown", async () => {
  const { window, document, clock } = await opened((window) => (window.document.prerendering = true));
  window.dispatchEvent(pageshow(false));
  await clock.pass(0);
  assert.equal(FakeSocket.all.length, 0);
  document.prerendering = false;
  document.dispatchEvent(new Event("prerenderingchange"));
  await clock.pass(0);
  assert.equal(FakeSocket.all.length, 1);
});

test("a browser that forbids storage opens its socket all the same", async () => {
  await opened((window) => {
    Object.defineProperty(window, "localStorage", {
      get() {
        throw new Error("SecurityError");
      },
    });
  });
  assert.equal(FakeSocket.all.length, 1);
});

// The entry point, in a window with the elements of a signed-in page.

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeDocument, FakeElement, badgeElements, signedOutElements, timeElement } from "./fake_page.js";
import { FakeBrowser, FakeClock, FakeStorage } from "./fake_browser.js";

class FakeWebSocket {
  static all = [];
  sent = [];

  constructor(href) {
    this.href = href;
    FakeWebSocket.all.push(this);
  }

  close() {
    this.closed = true;
  }

  send(data) {
    this.sent.push(data);
  }
}

function makePage() {
  const elements = { ...signedOutElements().elements, ...badgeElements(2) };
  elements["#connection"] = new FakeElement({}, { hidden: true });
  elements["#connection"].dataset.text = "Offline. Last updated {time}";
  const document = new FakeDocument(elements, [timeElement("2024-11-22T19:04:59+00:00")]);
  document.body.dataset = { notifications: "/notifications", since: "1732284183.123456", heartbeat: "20" };
  return { document, elements };
}

class MutationObserver {
  observe() {}
}

let imported = 0;

async function openPage(change = () => {}) {
  FakeWebSocket.all = [];
  const { document, elements } = makePage();
  const notifications = [{ name: "unread_message_count", data: 0, timestamp: 1732284190.5 }];
  const fetch = async () => ({ ok: true, json: async () => notifications });
  const location = new URL("https://example.org/messages?page=2");
  const localStorage = new FakeStorage();
  const clock = new FakeClock();
  const navigator = { languages: ["en-US", "en"] };
  const properties = { document, fetch, location, navigator, WebSocket: FakeWebSocket, MutationObserver, localStorage };
  const window = Object.assign(new EventTarget(), properties, { performance: clock });
  window.setTimeout = clock.setTimeout;
  window.clearTimeout = clock.clearTimeout;
  change(window);
  globalThis.window = window;
  await import(`../../static/rt/main.js?${imported++}`);
  await clock.advance(0);
  return { window, clock, document, elements };
}

const frame = (data, timestamp) => ({ data: JSON.stringify([{ name: "unread_message_count", data, timestamp }]) });
const pageshow = (persisted) => Object.assign(new Event("pageshow"), { persisted });

test("a signed-in page connects and shows the count", async () => {
  const { elements, document } = await openPage();
  const { "#message_count": badge } = elements;
  const urls = FakeWebSocket.all.map(({ href }) => href);
  assert.deepEqual(urls, ["wss://example.org/notifications?since=1732284183.123456"]);
  assert.match(document.times[0].textContent, /2024/);
  FakeWebSocket.all[0].onmessage(frame(1, 1732284200.25));
  assert.deepEqual([badge.textContent, badge.hidden], ["1", false]);
});

test("the end of the session is shown", async () => {
  const { document, elements, window, clock } = await openPage();
  FakeWebSocket.all[0].onmessage({ data: "[]" });
  const headers = new Headers({ "Content-Type": "application/problem+json" });
  window.fetch = async () => ({ status: 401, headers, json: async () => ({ code: "signed_out" }) });
  FakeWebSocket.all[0].onclose({ code: 4401, reason: "" });
  await clock.advance(500);
  assert.equal(elements["#signed_out"].hidden, false);
  assert.equal(elements["#message_count"].hidden, true);
  assert.equal(document.title, "Microblog");
  assert.deepEqual(elements.main.children, [elements["#signed_out"]]);
});

test("a page closes its socket on pagehide and opens one on pageshow", async () => {
  const { window, clock } = await openPage();
  window.dispatchEvent(pageshow(false));
  assert.equal(FakeWebSocket.all.length, 1);
  window.dispatchEvent(new Event("pagehide"));
  assert.equal(FakeWebSocket.all[0].closed, true);
  window.dispatchEvent(pageshow(true));
  await clock.advance(0);
  assert.equal(FakeWebSocket.all.length, 2);
});

test("the online event opens a second socket", async () => {
  const { window, clock } = await openPage();
  FakeWebSocket.all[0].onmessage({ data: "[]" });
  window.dispatchEvent(new Event("online"));
  await clock.advance(0);
  assert.equal(FakeWebSocket.all.length, 2);
});

test("the offline event shows the offline notice at once", async () => {
  const { window, elements } = await openPage();
  FakeWebSocket.all[0].onmessage({ data: "[]" });
  window.dispatchEvent(new Event("offline"));
  assert.equal(elements["#connection"].hidden, false);
  FakeWebSocket.all[0].onmessage({ data: "[]" });
  assert.equal(elements["#connection"].hidden, true);
});

test("a frozen page closes its socket, a resumed one opens one", async () => {
  const { document, clock } = await openPage();
  document.dispatchEvent(new Event("freeze"));
  assert.equal(FakeWebSocket.all[0].closed, true);
  document.dispatchEvent(new Event("resume"));
  await clock.advance(0);
  assert.equal(FakeWebSocket.all.length, 2);
});

test("sites below different paths of one origin have other channels and locks", async () => {
  const names = [];
  for (const address of ["/badge/notifications?user=42", "/badge/4/notifications?user=2", "/notifications?user=42"]) {
    await openPage((window) => {
      window.document.body.dataset.notifications = address;
      window.navigator.locks = { request: (name) => (names.push(name), new Promise(() => {})) };
      window.BroadcastChannel = class {
        postMessage() {}
        close() {}
      };
    });
  }
  assert.deepEqual(names, ["microblog-rt:badge/42", "microblog-rt:badge/4/2", "microblog-rt:42"]);
});

test("the channel and the lock have the account's name", async () => {
  const browser = new FakeBrowser(new FakeClock());
  const names = [];
  await openPage((window) => {
    window.document.body.dataset.notifications = "/notifications?user=42";
    window.navigator.locks = { request: (name) => (names.push(name), new Promise(() => {})) };
    window.BroadcastChannel = class {
      constructor(name) {
        names.push(name);
        Object.assign(this, browser.openChannel(name));
      }
    };
  });
  assert.deepEqual(names, ["microblog-rt:42", "microblog-rt:42"]);
});

test("a prerendered page connects when it is shown", async () => {
  const { window, document, clock } = await openPage((window) => (window.document.prerendering = true));
  window.dispatchEvent(pageshow(false));
  await clock.advance(0);
  assert.equal(FakeWebSocket.all.length, 0);
  document.prerendering = false;
  document.dispatchEvent(new Event("prerenderingchange"));
  await clock.advance(0);
  assert.equal(FakeWebSocket.all.length, 1);
});

test("a page without storage opens its socket", async () => {
  await openPage((window) => {
    Object.defineProperty(window, "localStorage", {
      get() {
        throw new Error("SecurityError");
      },
    });
  });
  assert.equal(FakeWebSocket.all.length, 1);
});

// What the page shows: offline notice, messages marked as read, times.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { OfflineNotice } from "../../static/rt/offline_notice.js";
import { newMessagesNotice, markRead } from "../../static/rt/mark_read.js";
import { localizeTimes } from "../../static/rt/local_time.js";
import { FakeDocument, FakeElement, markReadForm } from "./fake_page.js";
import { FakeClock } from "./fake_browser.js";

process.env.TZ = "America/Bogota"; // UTC-5, without summer time

// The offline notice

const TEMPLATE = readFileSync(new URL("../../templates/base.html", import.meta.url), "utf8");
const [, TEXT] = TEMPLATE.match(/id="connection".* data-text="\{\{ _\('([^']+)'\) \}\}"/);
const HOUR = 3_600_000;

function makeNotice() {
  const clock = new FakeClock();
  const element = new FakeElement({}, { hidden: true });
  element.dataset.text = TEXT;
  clock.suspend(Date.UTC(2024, 10, 22, 19, 4, 59) - clock.now());
  return { clock, element, notice: new OfflineNotice(clock, element, "en") };
}

test("no offline notice for an interruption under five seconds", async () => {
  const { clock, element, notice } = makeNotice();
  notice.reconnecting();
  await clock.advance(4_900);
  assert.equal(element.hidden, true);
  notice.online();
  await clock.advance(60_000);
  assert.equal(element.hidden, true);
});

test("the offline notice shows the local time of the last update", async () => {
  const { clock, element, notice } = makeNotice();
  await clock.advance(60_000);
  notice.online();
  await clock.advance(1_000);
  notice.reconnecting();
  await clock.advance(5_000);
  assert.deepEqual([element.hidden, element.textContent], [false, "Offline. Last updated 14:05"]);
});

test("the offline notice has the date when the last update was not today", async () => {
  const { clock, element, notice } = makeNotice();
  clock.suspend(10 * HOUR); // 00:05 on the next day
  notice.reconnecting();
  await clock.advance(5_000);
  assert.equal(element.textContent, "Offline. Last updated Nov 22, 2024, 14:04");
});

test("the offline notice gets the date at midnight", async () => {
  const { clock, element, notice } = makeNotice();
  notice.offline();
  await clock.advance(9 * HOUR);
  assert.equal(element.textContent, "Offline. Last updated 14:04");
  await clock.advance(HOUR);
  assert.equal(element.textContent, "Offline. Last updated Nov 22, 2024, 14:04");
});

test("repeated reconnecting() does not delay the offline notice", async () => {
  const { clock, element, notice } = makeNotice();
  for (let i = 0; i < 6; i++) {
    notice.reconnecting();
    await clock.advance(1_000);
  }
  assert.equal(element.hidden, false);
});

test("the offline notice is written once while its text is the same", async () => {
  const { clock, element, notice } = makeNotice();
  let writes = 0;
  let content = "";
  Object.defineProperty(element, "textContent", { get: () => content, set: (text) => (writes++, (content = text)) });
  for (let i = 0; i < 60; i++) {
    notice.reconnecting();
    await clock.advance(6_000);
  }
  assert.deepEqual([element.hidden, writes], [false, 1]);
});

test("the offline notice is hidden when the connection is back", async () => {
  const { clock, element, notice } = makeNotice();
  notice.reconnecting();
  await clock.advance(9_000);
  notice.online();
  assert.equal(element.hidden, true);
});

test("offline() shows the offline notice at once", () => {
  const { element, notice } = makeNotice();
  notice.offline();
  assert.equal(element.hidden, false);
});

// Marking as read

const notifications = [{ name: "unread_message_count", data: 0, timestamp: 5 }];

function openMessages({ response = { ok: true, json: async () => notifications }, visibilityState = "visible" } = {}) {
  const { form, button } = markReadForm();
  const document = new FakeDocument({ "#mark_read": form });
  document.visibilityState = visibilityState;
  const requests = [];
  const merged = [];
  const fetch = async (...request) => {
    requests.push(request);
    if (response instanceof Error) throw response;
    return response;
  };
  const start = () => markRead({ fetch, document, merge: (response) => merged.push(response) });
  return { document, button, requests, merged, start };
}

test("a visible page marks messages as read, merges the response, hides the button", async () => {
  const { requests, merged, button, start } = openMessages();
  await start();
  const [[url, { method, headers, body }]] = requests;
  assert.deepEqual([url, method], ["/messages/read", "POST"]);
  assert.deepEqual(headers, { Accept: "application/json", "X-CSRFToken": "t0ken" });
  assert.deepEqual([...body], [["csrf_token", "t0ken"], ["up_to", "2024-11-22T14:00:00+00:00"]]);
  assert.deepEqual([merged, button.hidden], [[notifications], true]);
});

test("a background page marks messages as read once, when it becomes visible", async () => {
  const { document, requests, start } = openMessages({ visibilityState: "hidden" });
  await start();
  assert.equal(requests.length, 0);
  document.setVisibility("visible");
  document.setVisibility("hidden");
  document.setVisibility("visible");
  await new Promise(setImmediate);
  document.setVisibility("visible");
  assert.equal(requests.length, 1);
});

test("a prerendered page does not mark messages as read", async () => {
  const { document, requests, start } = openMessages();
  document.prerendering = true;
  await start();
  assert.equal(requests.length, 0);
  document.prerendering = false;
  document.dispatchEvent(new Event("prerenderingchange"));
  assert.equal(requests.length, 1);
});

for (const [what, response] of [
  ["is refused", { ok: false, json: async () => ({ title: "Unauthorized" }) }],
  ["gets no response", new TypeError("Failed to fetch")],
  ["gets no array", { ok: true, json: async () => ({}) }],
]) {
  test(`a mark that ${what} leaves the button and is retried when visible`, async () => {
    const { document, requests, merged, button, start } = openMessages({ response });
    await start();
    assert.deepEqual([merged, button.hidden], [[], false]);
    document.setVisibility("visible");
    assert.equal(requests.length, 2);
  });
}

test("a page without the form marks nothing", () => {
  markRead({ fetch: assert.fail, document: new FakeDocument(), merge: assert.fail });
});

test("a growing count announces new messages, a shrinking one does not", () => {
  const element = new FakeElement({}, { hidden: true });
  const showCount = newMessagesNotice(element, 3);
  showCount(3);
  showCount(0);
  assert.equal(element.hidden, true);
  showCount(1);
  assert.equal(element.hidden, false);
});

// Times

function times(language, ...datetimes) {
  const elements = datetimes.map((datetime) => new FakeElement({ datetime }, { textContent: "as rendered" }));
  localizeTimes(new FakeDocument({}, elements), language);
  return elements.map(({ textContent, title }) => [textContent.replace(/\u202f/g, " "), title.replace(/\u202f/g, " ")]);
}

test("times are in the visitor's zone and the page's language, in full in the title", () => {
  const datetime = "2024-11-22T19:04:59.123456+00:00";
  assert.deepEqual(times("en", datetime), [["Nov 22, 2024, 2:04 PM", "Friday, November 22, 2024 at 2:04:59 PM GMT-5"]]);
  const [[text, title]] = times("es", datetime);
  assert.match(text, /22 nov 2024.*14:04/);
  assert.match(title, /viernes, 22 de noviembre de 2024/);
});

test("dates without a time and invalid times are not changed", () => {
  assert.deepEqual(times("en", "2024-11-22", "yesterday, Tuesday"), [["as rendered", ""], ["as rendered", ""]]);
});

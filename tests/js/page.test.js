// What the page shows: badge, sign, read mark, times.

import assert from "node:assert/strict";
import { test } from "node:test";

import { badge } from "../../static/rt/badge.js";
import { ConnectionSign } from "../../static/rt/connection.js";
import { announceNews, markRead } from "../../static/rt/read.js";
import { localizeTimes } from "../../static/rt/times.js";
import { Document, Element, readForm } from "./page.js";
import { Clock } from "./world.js";

process.env.TZ = "America/Bogota"; // UTC-5, without summer time

// The badge

test("the badge shows digits alone, and nothing when there is nothing", () => {
  const element = new Element();
  const set_message_count = badge(element);
  set_message_count(1234);
  assert.deepEqual([element.textContent, element.hidden], ["1234", false]);
  set_message_count(0);
  assert.deepEqual([element.textContent, element.hidden], ["0", true]);
});

// The sign of a lost connection

function sign() {
  const clock = new Clock();
  const element = new Element({}, { hidden: true });
  element.dataset.text = "Showing what was known at {time}";
  clock.sleep(Date.UTC(2024, 10, 22, 19, 4, 59) - clock.now());
  return { clock, element, it: new ConnectionSign(clock, element, "en") };
}

test("a connection lost for less than five seconds is not worth a word", async () => {
  const { clock, element, it } = sign();
  it.doubt();
  await clock.pass(4_900);
  assert.equal(element.hidden, true);
  it.right();
  await clock.pass(60_000);
  assert.equal(element.hidden, true);
});

test("a connection lost for five seconds is told with the local time of the last moment that was right", async () => {
  const { clock, element, it } = sign();
  await clock.pass(60_000);
  it.right();
  await clock.pass(1_000);
  it.doubt();
  await clock.pass(5_000);
  assert.deepEqual([element.hidden, element.textContent], [false, "Showing what was known at 14:05"]);
});

test("doubt upon doubt does not put the sign off", async () => {
  const { clock, element, it } = sign();
  for (let i = 0; i < 6; i++) {
    it.doubt();
    await clock.pass(1_000);
  }
  assert.equal(element.hidden, false);
});

test("the sign is written once, for what is written again is read aloud again", async () => {
  const { clock, element, it } = sign();
  let writes = 0;
  Object.defineProperty(element, "textContent", { set: () => writes++ });
  for (let i = 0; i < 6; i++) {
    it.doubt();
    await clock.pass(6_000);
  }
  assert.deepEqual([element.hidden, writes], [false, 1]);
});

test("the sign goes when the connection heals", async () => {
  const { clock, element, it } = sign();
  it.doubt();
  await clock.pass(9_000);
  it.right();
  assert.equal(element.hidden, true);
});

test("a connection gone for good is told at once", () => {
  const { element, it } = sign();
  it.gone();
  assert.equal(element.hidden, false);
});

// Marking as read

const news = [{ name: "unread_message_count", data: 0, timestamp: 5 }];

function reading({ response = { ok: true, json: async () => news }, visibilityState = "visible" } = {}) {
  const { form, button } = readForm();
  const document = new Document({ "#mark_read": form });
  document.visibilityState = visibilityState;
  const requests = [];
  const merged = [];
  const fetch = async (...request) => {
    requests.push(request);
    if (response instanceof Error) throw response;
    return response;
  };
  const start = () => markRead({ fetch, document, merge: (notifications) => merged.push(notifications) });
  return { document, button, requests, merged, start };
}

test("a page that is seen is marked as read, its answer merged, its button gone", async () => {
  const { requests, merged, button, start } = reading();
  await start();
  const [[url, { method, headers, body }]] = requests;
  assert.deepEqual([url, method], ["/messages/read", "POST"]);
  assert.deepEqual(headers, { Accept: "application/json", "X-CSRFToken": "t0ken" });
  assert.deepEqual([...body], [["csrf_token", "t0ken"], ["up_to", "2024-11-22T14:00:00+00:00"]]);
  assert.deepEqual([merged, button.hidden], [[news], true]);
});

test("a page in the background is marked when it is seen, and once only", async () => {
  const { document, requests, start } = reading({ visibilityState: "hidden" });
  await start();
  assert.equal(requests.length, 0);
  document.becomes("visible");
  document.becomes("hidden");
  document.becomes("visible");
  await new Promise(setImmediate);
  document.becomes("visible");
  assert.equal(requests.length, 1);
});

test("a page that is only being prerendered has not been seen", async () => {
  const { document, requests, start } = reading();
  document.prerendering = true;
  await start();
  assert.equal(requests.length, 0);
  document.prerendering = false;
  document.dispatchEvent(new Event("prerenderingchange"));
  assert.equal(requests.length, 1);
});

for (const [what, response] of [
  ["refused", { ok: false, json: async () => ({ title: "Unauthorized" }) }],
  ["lost", new TypeError("Failed to fetch")],
  ["no array", { ok: true, json: async () => ({}) }],
]) {
  test(`a mark that is ${what} leaves the button, and is tried again when the page is next seen`, async () => {
    const { document, requests, merged, button, start } = reading({ response });
    await start();
    assert.deepEqual([merged, button.hidden], [[], false]);
    document.becomes("visible");
    assert.equal(requests.length, 2);
  });
}

test("a page without the form marks nothing", () => {
  markRead({ fetch: assert.fail, document: new Document(), merge: assert.fail });
});

test("a count that grows announces new messages; one that shrinks does not", () => {
  const element = new Element({}, { hidden: true });
  const announce = announceNews(element, 3);
  announce(3);
  announce(0);
  assert.equal(element.hidden, true);
  announce(1);
  assert.equal(element.hidden, false);
});

// Times

function times(language, ...datetimes) {
  const elements = datetimes.map((datetime) => new Element({ datetime }, { textContent: "as rendered" }));
  localizeTimes(new Document({}, elements), language);
  return elements.map(({ textContent, title }) => [textContent.replace(/\u202f/g, " "), title.replace(/\u202f/g, " ")]);
}

test("times are told in the reader's zone and the page's language, in full in the title", () => {
  const moment = "2024-11-22T19:04:59.123456+00:00";
  assert.deepEqual(times("en", moment), [["Nov 22, 2024, 2:04 PM", "Friday, November 22, 2024 at 2:04:59 PM GMT-5"]]);
  const [[text, title]] = times("es", moment);
  assert.match(text, /22 nov 2024.*14:04/);
  assert.match(title, /viernes, 22 de noviembre de 2024/);
});

test("what is no moment stays as it was rendered", () => {
  assert.deepEqual(times("en", "2024-11-22", "yesterday, Tuesday"), [["as rendered", ""], ["as rendered", ""]]);
});

// What the page shows: offline notice. See also: badge.test.js, local_time.test.js, counter.test.js.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { OfflineNotice } from "../../static/rt/offline_notice.js";
import { LocalTimes } from "../../static/rt/local_time.js";
import { FakeDocument, FakeElement } from "./fake_page.js";
import { FakeClock } from "./fake_browser.js";

process.env.TZ = "America/Bogota"; // UTC-5, without summer time

// The offline notice

const TEMPLATE = readFileSync(new URL("../../templates/base.html", import.meta.url), "utf8");
const [, TEXT] = TEMPLATE.match(/id="connection".* data-text="\{\{ _\('([^']+)'\) \}\}"/);
const HOUR = 3_600_000;

function makeNotice({ languages = ["en-GB"] } = {}) {
  const clock = new FakeClock();
  const element = new FakeElement({}, { hidden: true });
  element.dataset.text = TEXT;
  clock.suspend(Date.UTC(2024, 10, 22, 19, 4, 59) - clock.now());
  const times = new LocalTimes(clock, "en", languages, clock.now);
  return { clock, element, notice: new OfflineNotice(clock, element, times) };
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
  assert.equal(element.textContent, "Offline. Last updated 22 Nov 2024, 14:04");
});

test("the offline notice gets the date at midnight", async () => {
  const { clock, element, notice } = makeNotice();
  notice.offline();
  await clock.advance(9 * HOUR);
  assert.equal(element.textContent, "Offline. Last updated 14:04");
  await clock.advance(HOUR);
  assert.equal(element.textContent, "Offline. Last updated 22 Nov 2024, 14:04");
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

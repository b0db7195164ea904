// The number of unread messages: badge, title, favicon, app badge and announcements.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { badge, navigationBadge } from "../../static/rt/badge.js";
import { favicon } from "../../static/rt/favicon.js";
import { FakeDocument, badgeElements } from "./fake_page.js";
import { FakeClock } from "./fake_browser.js";

function makeBadge(count, { navigator, language = "en" } = {}) {
  const elements = badgeElements(count);
  const document = new FakeDocument(elements);
  if (count) document.title = `(${count}) ${document.title}`;
  const clock = new FakeClock();
  const env = { setTimeout: clock.setTimeout, clearTimeout: clock.clearTimeout, navigator };
  const said = [];
  const { "#announcer": announcer } = elements;
  Object.defineProperty(announcer, "textContent", { set: (text) => text && said.push(text) });
  return { clock, document, elements, said, set_message_count: badge(document, env, language) };
}

function shown({ document, elements }) {
  const { "#message_count": number, "#message_count_text": text, "link[rel=icon]": icon } = elements;
  const iconText = decodeURIComponent(icon.href).match(/>([\d+]+)<\/text>/)?.[1] ?? icon.href;
  return [number.hidden ? "" : number.textContent, text.textContent, document.title, iconText];
}

test("one call shows the number in the badge, its text, the title and the favicon", () => {
  const page = makeBadge(0);
  page.set_message_count(1);
  assert.deepEqual(shown(page), ["1", "1 unread message", "(1) People - Microblog", "1"]);
  page.set_message_count(42);
  assert.deepEqual(shown(page), ["42", "42 unread messages", "(42) People - Microblog", "42"]);
  page.set_message_count(0);
  assert.deepEqual(shown(page), ["", "", "People - Microblog", "/static/favicon.svg"]);
});

test("the badge and the favicon show 99+, the text and the title the exact number", () => {
  const page = makeBadge(99);
  assert.deepEqual(shown(page), ["99", "99 unread messages", "(99) People - Microblog", "99"]);
  page.set_message_count(100);
  assert.deepEqual(shown(page), ["99+", "100 unread messages", "(100) People - Microblog", "99+"]);
});

test("a language without a singular has one sentence for every number", () => {
  const page = makeBadge(0, { language: "zh-Hant" });
  Object.assign(page.elements["#announcer"].dataset, { one: "wrong", other: "{n} 則未讀訊息" });
  for (const n of [1, 2, 5]) {
    page.set_message_count(n);
    assert.equal(shown(page)[1], `${n} 則未讀訊息`);
  }
  assert.deepEqual(page.said, ["1 則未讀訊息"]);
});

test("the number of the rendered page is shown and not announced", () => {
  const page = makeBadge(3);
  assert.deepEqual(shown(page), ["3", "3 unread messages", "(3) People - Microblog", "3"]);
  page.set_message_count(3);
  assert.deepEqual(page.said, []);
});

test("the app badge is set and cleared, and a refusal is ignored", async () => {
  const calls = [];
  const call = (name) => (...args) => (calls.push([name, ...args]), Promise.reject(new Error("NotAllowedError")));
  const navigator = { setAppBadge: call("set"), clearAppBadge: call("clear") };
  const { set_message_count } = makeBadge(2, { navigator });
  set_message_count(120);
  set_message_count(0);
  await new Promise(setImmediate);
  assert.deepEqual(calls, [["set", 2], ["set", 120], ["clear"]]);
});

test("the favicon with a number is a well-formed variant of favicon.svg", () => {
  const [, path] = readFileSync(new URL("../../static/favicon.svg", import.meta.url), "utf8").match(/ d="([^"]+z)"/);
  assert.ok(decodeURIComponent(favicon("7")).includes(path));
});

// Announcements

test("at most one announcement in five seconds, of the latest number", async () => {
  const { clock, said, set_message_count } = makeBadge(0);
  for (const n of [1, 2, 3]) set_message_count(n);
  await clock.advance(4_999);
  assert.deepEqual(said, ["1 unread message"]);
  await clock.advance(1);
  assert.deepEqual(said, ["1 unread message", "3 unread messages"]);
  set_message_count(4);
  await clock.advance(60_000);
  assert.equal(said.at(-1), "4 unread messages");
  assert.equal(said.length, 3);
});

test("a falling number is not announced, and the next message is", async () => {
  const { clock, said, set_message_count } = makeBadge(3);
  set_message_count(0);
  await clock.advance(10_000);
  assert.deepEqual(said, []);
  set_message_count(1);
  await clock.advance(10_000);
  set_message_count(0);
  set_message_count(1);
  assert.deepEqual(said, ["1 unread message", "1 unread message"]);
});

test("messages read before their announcement are not announced", async () => {
  const { clock, said, set_message_count } = makeBadge(0);
  for (const n of [1, 4, 1]) set_message_count(n);
  await clock.advance(10_000);
  assert.deepEqual(said, ["1 unread message"]);
});

test("a hidden tab announces nothing, and later only what comes later", async () => {
  const { clock, document, said, set_message_count } = makeBadge(0);
  document.setVisibility("hidden");
  set_message_count(1);
  await clock.advance(10_000);
  document.setVisibility("visible");
  await clock.advance(10_000);
  assert.deepEqual(said, []);
  set_message_count(2);
  assert.deepEqual(said, ["2 unread messages"]);
});

test("the badge of another count shows its number and its sentence", () => {
  const elements = badgeElements(0);
  const heard = [];
  const set_count = navigationBadge(new FakeDocument(elements), "en", "post", (...args) => heard.push(args));
  const { "#post_count": number, "#post_count_text": text } = elements;
  const shown = () => [number.hidden ? "" : number.textContent, text.textContent];
  set_count(1);
  assert.deepEqual(shown(), ["1", "1 new post"]);
  set_count(100);
  assert.deepEqual(shown(), ["99+", "100 new posts"]);
  set_count(0);
  assert.deepEqual(shown(), ["", ""]);
  assert.deepEqual(heard, [
    [1, "1 new post"],
    [100, "100 new posts"],
    [0, ""],
  ]);
});

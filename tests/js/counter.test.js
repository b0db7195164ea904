// The counter counts as the server does: text_cases.json is shared with ../test_text.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { countMessage, measure } from "../../static/rt/counter.js";
import { FakeDocument, FakeElement } from "./fake_page.js";

const CASES = JSON.parse(readFileSync(new URL("../text_cases.json", import.meta.url), "utf8"));

for (const { what, text, stored, length, codePoints } of CASES) {
  test(`counts as the server: ${what}`, () => {
    assert.deepEqual(measure(text), { stored, length, codePoints });
  });
}

function openForm(value = "") {
  const dataset = { length: "140", codePoints: "1400", left: "Characters left: {number}", tooLong: "Too long." };
  const elements = {
    "#message": new FakeElement({}, { value }),
    "#message_counter": new FakeElement({}, { hidden: true, dataset }),
    "#message_left": new FakeElement(),
    "#message_too_long": new FakeElement(),
  };
  const document = Object.assign(new FakeDocument(elements), { defaultView: new EventTarget() });
  countMessage(document);
  const shown = () => [elements["#message_left"].textContent, elements["#message_too_long"].textContent];
  const type = (text) => {
    elements["#message"].value = text;
    elements["#message"].dispatchEvent(new Event("input"));
  };
  return { ...elements, document, shown, type };
}

test("the counter follows what is typed, and warns past the limit", () => {
  const { "#message_counter": counter, shown, type } = openForm("hello");
  assert.equal(counter.hidden, false);
  assert.deepEqual(shown(), ["Characters left: 135", ""]);
  type("👨‍👩‍👧‍👦".repeat(140) + " \n");
  assert.deepEqual(shown(), ["Characters left: 0", ""]);
  type("x".repeat(143));
  assert.deepEqual(shown(), ["Characters left: -3", "Too long."]);
  type("x" + "\u0336".repeat(1400));
  assert.deepEqual(shown(), ["Characters left: 139", "Too long."]);
  type("");
  assert.deepEqual(shown(), ["Characters left: 140", ""]);
});

test("the counter counts what the browser restored", () => {
  const { "#message": field, document, shown } = openForm();
  field.value = "restored";
  document.defaultView.dispatchEvent(new Event("pageshow"));
  assert.deepEqual(shown(), ["Characters left: 132", ""]);
});

test("a page without a message field has no counter", () => {
  countMessage(new FakeDocument());
});

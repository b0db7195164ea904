// Keyboard shortcuts: which keys do what, where they do nothing, and how they are turned off.

import assert from "node:assert/strict";
import { test } from "node:test";

import { shortcuts } from "../../static/rt/shortcuts.js";
import { FakeStorage } from "./fake_browser.js";
import { FakeDocument, FakeElement } from "./fake_page.js";

class Dialog extends FakeElement {
  open = false;
  opened = 0;

  showModal() {
    this.open = true;
    this.opened++;
  }

  close() {
    this.open = false;
  }

  querySelectorAll() {
    return this.links;
  }
}

function makePage({ more = {}, localStorage = new FakeStorage() } = {}) {
  const followed = [];
  const link = (key, field) =>
    new FakeElement({}, { dataset: { key, field }, click: () => followed.push(key) });
  const dialog = new Dialog({}, { links: [link("h"), link("m"), link("n", "#message")] });
  const button = new FakeElement({}, { hidden: true });
  const box = new FakeElement({}, { id: "shortcuts_on", checked: true, closest: () => box });
  const elements = { "#shortcuts": dialog, "#shortcuts_button": button, "#shortcuts_on": box, ...more };
  const document = new FakeDocument(elements);
  const window = { document, localStorage };
  shortcuts(window);
  /** Presses a key, which the page may have used already; returns whether it is used then. */
  function press(key, { target = new FakeElement({}, { closest: () => null }), used = false, ...fields } = {}) {
    const event = Object.assign(new Event("keydown", { cancelable: true }), { key, ...fields });
    Object.defineProperty(event, "target", { value: target });
    if (used) event.preventDefault();
    document.dispatchEvent(event);
    return event.defaultPrevented;
  }
  function choose(on) {
    box.checked = on;
    box.dispatchEvent(new Event("change"));
  }
  return { window, dialog, button, box, followed, press, choose };
}

test("the question mark opens the list once", () => {
  const { dialog, press } = makePage();
  assert.equal(press("?", { shiftKey: true }), true);
  assert.deepEqual([dialog.open, dialog.opened], [true, 1]);
  assert.equal(press("?", { shiftKey: true }), true);
  assert.equal(dialog.opened, 1);
});

test("a letter follows its link, also from the open list", () => {
  const { followed, press } = makePage();
  assert.equal(press("h"), true);
  press("?");
  assert.equal(press("m"), true);
  assert.deepEqual(followed, ["h", "m"]);
});

test("other keys do nothing", () => {
  const { dialog, followed, press } = makePage();
  for (const key of ["x", "H", "Enter", "Escape", "Tab", " ", "/"]) assert.equal(press(key), false, key);
  assert.deepEqual([dialog.opened, followed], [0, []]);
});

test("a letter focuses its field if the page has it", () => {
  const message = new FakeElement();
  const { dialog, followed, press } = makePage({ more: { "#message": message } });
  press("?");
  assert.equal(press("n"), true);
  assert.deepEqual([message.focused, dialog.open, followed], [true, false, []]);
});

test("a letter follows its link if the page does not have its field", () => {
  const { followed, press } = makePage();
  press("n");
  assert.deepEqual(followed, ["n"]);
});

for (const fields of [
  { ctrlKey: true },
  { metaKey: true },
  { altKey: true },
  { isComposing: true },
  { repeat: true },
  { target: new FakeElement({}, { closest: (selector) => (selector.includes("textarea") ? {} : null) }) },
]) {
  test(`keys do nothing with ${Object.keys(fields)}`, () => {
    const { dialog, followed, press } = makePage();
    for (const key of ["?", "h"]) press(key, fields);
    assert.deepEqual([dialog.opened, followed], [0, []]);
  });
}

test("keys that the page has used already do nothing", () => {
  const { followed, press } = makePage();
  press("h", { used: true });
  assert.deepEqual(followed, []);
});

test("keys do nothing while another dialog is open", () => {
  const { dialog, followed, press } = makePage({ more: { "dialog[open]:not(#shortcuts)": new FakeElement() } });
  for (const key of ["?", "h"]) press(key);
  assert.deepEqual([dialog.opened, followed], [0, []]);
});

test("keys that are turned off do nothing, also on the next page, and the button opens the list", () => {
  const { window, choose, press, followed, dialog } = makePage();
  choose(false);
  const next = makePage({ localStorage: window.localStorage });
  for (const each of [press, next.press]) for (const key of ["?", "h"]) assert.equal(each(key), false);
  assert.deepEqual([dialog.opened, next.dialog.opened, followed, next.followed], [0, 0, [], []]);
  assert.equal(next.button.hidden, false);
  next.button.dispatchEvent(new Event("click"));
  assert.deepEqual([next.dialog.open, next.box.checked], [true, false]);
  next.choose(true);
  assert.equal(press("h"), true);
});

test("keys work with the focus on the box that turns them off", () => {
  const { box, followed, press } = makePage();
  press("h", { target: box });
  assert.deepEqual(followed, ["h"]);
});

test("keys work in a browser without storage", () => {
  const { window, choose, press, followed } = makePage();
  Object.defineProperty(window, "localStorage", {
    get() {
      throw new Error("SecurityError");
    },
  });
  choose(false);
  press("h");
  assert.deepEqual(followed, ["h"]);
});

test("a page without the list is not changed", () => {
  const document = new FakeDocument();
  shortcuts({ document });
  document.dispatchEvent(Object.assign(new Event("keydown"), { key: "?" }));
});

// Drafts of unsent messages, and the page after the end of its session.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Drafts, removeSentDraft } from "../../static/rt/drafts.js";
import { signedOutView } from "../../static/rt/signed_out.js";
import { FakeDocument, signedOutElements } from "./fake_page.js";

class SessionStorage {
  getItem(key) {
    return this[key] ?? null;
  }

  setItem(key, value) {
    this[key] = value;
  }

  removeItem(key) {
    delete this[key];
  }
}

function makeWindow(href = "https://example.org/user/susan") {
  const replaced = [];
  const history = { state: null, replaceState: (...args) => replaced.push(args) };
  return { sessionStorage: new SessionStorage(), location: new URL(href), history, replaced };
}

const draft = { text: "hello", nonce: "n1" };

test("a draft belongs to one owner and one recipient", () => {
  const drafts = new Drafts(makeWindow());
  drafts.set("1", "susan", draft);
  assert.deepEqual(drafts.get("1", "susan"), draft);
  assert.deepEqual([drafts.get("2", "susan"), drafts.get("1", "john")], [null, null]);
});

test("a text of white space removes the draft", () => {
  const drafts = new Drafts(makeWindow());
  drafts.set("1", "susan", draft);
  drafts.set("1", "susan", { text: " \n", nonce: "n1" });
  assert.equal(drafts.get("1", "susan"), null);
});

test("the acknowledging page removes the draft with its nonce only", () => {
  const window = makeWindow("https://example.org/user/susan?page=2#sent=n1");
  const drafts = new Drafts(window);
  window.sessionStorage.setItem("another module's", "not JSON");
  drafts.set("1", "susan", draft);
  drafts.set("1", "john", { text: "goodbye", nonce: "n2" });
  removeSentDraft(window);
  assert.equal(drafts.get("1", "susan"), null);
  assert.equal(drafts.get("1", "john").text, "goodbye");
  assert.deepEqual(window.replaced, [[null, "", "/user/susan?page=2"]]);
});

test("other pages remove no draft", () => {
  const window = makeWindow("https://example.org/user/susan#content");
  new Drafts(window).set("1", "susan", draft);
  removeSentDraft(window);
  assert.deepEqual(new Drafts(window).get("1", "susan"), draft);
  assert.deepEqual(window.replaced, []);
});

test("a browser without storage, or with a full one, keeps no draft", () => {
  const blocked = { ...makeWindow("https://example.org/#sent=n1") };
  Object.defineProperty(blocked, "sessionStorage", {
    get() {
      throw new Error("SecurityError");
    },
  });
  const full = makeWindow();
  full.sessionStorage.setItem = () => {
    throw new Error("QuotaExceededError");
  };
  for (const window of [blocked, full]) {
    const drafts = new Drafts(window);
    drafts.set("1", "susan", draft);
    assert.equal(drafts.get("1", "susan"), null);
    removeSentDraft(window);
  }
});

// The end of the session

function openPage(href) {
  const { elements, link, content } = signedOutElements();
  const document = Object.assign(new FakeDocument(elements), { title: "Messages", activeElement: content });
  const loaded = [];
  const location = Object.assign(new URL(href), { replace: (target) => loaded.push(target) });
  return { document, elements, link, loaded, view: signedOutView({ document, location, fetch: () => Promise.reject(new TypeError("offline")) }) };
}

test("the end of the session removes the content and its title, and leads back", () => {
  const { document, elements, link, view } = openPage("https://example.org/send_message/susan?a=b#c");
  view.signedOut();
  view.signedOut();
  assert.deepEqual([elements.main.children, elements["#signed_out"].hidden], [[elements["#signed_out"]], false]);
  assert.equal(document.title, "Microblog");
  assert.equal(link.href, "https://example.org/auth/login?next=%2Fsend_message%2Fsusan%3Fa%3Db");
  assert.equal(link.focused, true);
});

test("a resumed session loads the page again", () => {
  const { loaded, view } = openPage("https://example.org/messages?page=2#content");
  view.resumed();
  assert.deepEqual(loaded, ["https://example.org/messages?page=2"]);
});

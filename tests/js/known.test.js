import assert from "node:assert/strict";
import { test } from "node:test";

import { Known, dispatch } from "../../static/rt/known.js";

const count = (data, timestamp) => ({ name: "unread_message_count", data, timestamp });

function known(since) {
  const applied = [];
  return { applied, known: new Known(since, (notifications) => applied.push(...notifications.map(({ data }) => data))) };
}

test("what is newer is applied", () => {
  const { known: it, applied } = known(10);
  it.merge([count(1, 11)]);
  it.merge([count(2, 12)]);
  assert.deepEqual(applied, [1, 2]);
});

test("an older value never replaces a newer one, whoever tells it", () => {
  const { known: it, applied } = known(10);
  it.merge([count(0, 15)]);
  it.merge([count(3, 14)]);
  it.follow([count(3, 14)], 10);
  assert.deepEqual(applied, [0]);
});

test("names are compared each with its own", () => {
  const { known: it, applied } = known(10);
  it.merge([count(1, 20)]);
  it.merge([{ name: "other", data: "o", timestamp: 15 }, count(9, 16)]);
  assert.deepEqual(applied, [1, "o"]);
});

test("what is older than the page was rendered is old", () => {
  const { known: it, applied } = known(10);
  it.merge([count(5, 10), count(4, 9)]);
  assert.deepEqual(applied, []);
});

test("a live answer that is not newer than asked comes from a restored server and replaces everything", () => {
  const { known: it, applied } = known(100);
  it.follow([count(7, 40)], 100);
  it.follow([count(8, 41)], 40);
  assert.deepEqual(applied, [7, 8]);
});

test("a value that could not be applied is not taken for known", () => {
  let broken = true;
  const applied = [];
  const it = new Known(0, (notifications) => {
    if (broken) throw new Error("broken");
    applied.push(...notifications);
  });
  assert.throws(() => it.merge([count(1, 5)]));
  broken = false;
  it.merge([count(1, 5)]);
  assert.equal(applied.length, 1);
});

test("nothing new is nothing applied", () => {
  const calls = [];
  new Known(0, (notifications) => calls.push(notifications)).follow([], 0);
  assert.deepEqual(calls, []);
});

test("each name goes to its handler, and names of the future to nobody", () => {
  const heard = [];
  dispatch({ a: (data) => heard.push(data) })([{ name: "a", data: 1 }, { name: "b", data: 2 }, { name: "toString", data: 3 }]);
  assert.deepEqual(heard, [1]);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { NotificationFilter, dispatch } from "../../static/rt/notification_filter.js";

const count = (data, timestamp) => ({ name: "unread_message_count", data, timestamp });

function makeFilter(since) {
  const applied = [];
  const apply = (notifications) => applied.push(...notifications.map(({ data }) => data));
  return { applied, filter: new NotificationFilter(since, apply) };
}

test("newer values are applied", () => {
  const { filter, applied } = makeFilter(10);
  filter.merge([count(1, 11)]);
  filter.merge([count(2, 12)]);
  assert.deepEqual(applied, [1, 2]);
});

test("an older value never replaces a newer one, from any source", () => {
  const { filter, applied } = makeFilter(10);
  filter.merge([count(0, 15)]);
  filter.merge([count(3, 14)]);
  filter.follow([count(3, 14)], 10);
  assert.deepEqual(applied, [0]);
});

test("timestamps are compared per name", () => {
  const { filter, applied } = makeFilter(10);
  filter.merge([count(1, 20)]);
  filter.merge([{ name: "other", data: "o", timestamp: 15 }, count(9, 16)]);
  assert.deepEqual(applied, [1, "o"]);
});

test("values older than the rendered page are dropped", () => {
  const { filter, applied } = makeFilter(10);
  filter.merge([count(5, 10), count(4, 9)]);
  assert.deepEqual(applied, []);
});

test("an active response not newer than its cursor replaces everything", () => {
  const { filter, applied } = makeFilter(100);
  filter.follow([count(7, 40)], 100);
  filter.follow([count(8, 41)], 40);
  assert.deepEqual(applied, [7, 8]);
});

test("a value whose apply failed is applied again", () => {
  let broken = true;
  const applied = [];
  const filter = new NotificationFilter(0, (notifications) => {
    if (broken) throw new Error("broken");
    applied.push(...notifications);
  });
  assert.throws(() => filter.merge([count(1, 5)]));
  broken = false;
  filter.merge([count(1, 5)]);
  assert.equal(applied.length, 1);
});

test("an empty response applies nothing", () => {
  const calls = [];
  new NotificationFilter(0, (notifications) => calls.push(notifications)).follow([], 0);
  assert.deepEqual(calls, []);
});

test("dispatch calls the handler of each name and ignores unknown names", () => {
  const handled = [];
  const apply = dispatch({ a: (data) => handled.push(data) });
  apply([{ name: "a", data: 1 }, { name: "b", data: 2 }, { name: "toString", data: 3 }]);
  assert.deepEqual(handled, [1]);
});

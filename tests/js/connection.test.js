import assert from "node:assert/strict";
import { test } from "node:test";

import { Connection } from "../../static/rt/connection.js";
import { FakeClock } from "./fake_browser.js";

function openConnection(name = "websocket") {
  const clock = new FakeClock();
  const calls = [];
  const handlers = {};
  handlers.received = () => calls.push("received");
  handlers.ended = (_, { timedOut }) => calls.push(timedOut ? "timed out" : "ended");
  let closed = 0;
  const connection = new Connection(clock, name, 5, handlers).open(() => ({ close: () => closed++ }));
  return { clock, connection, calls, closed: () => closed };
}

test("a connection times out after four seconds without a response", async () => {
  const { clock, calls } = openConnection();
  await clock.advance(3_999);
  assert.deepEqual(calls, []);
  await clock.advance(1);
  assert.deepEqual(calls, ["timed out"]);
});

test("a connection that has responded does not time out", async () => {
  const { clock, connection, calls } = openConnection();
  connection.receive([]);
  await clock.advance(60_000);
  assert.deepEqual([calls, connection.lifetime], [["received"], 60_000]);
});

test("a closed connection closes its transport and ignores its output", async () => {
  const { clock, connection, calls, closed } = openConnection();
  connection.close();
  connection.receive([]);
  connection.end({ status: 401 });
  await clock.advance(60_000);
  assert.deepEqual([calls, closed()], [[], 1]);
});

test("a connection ends once", () => {
  const { connection, calls } = openConnection();
  connection.end({ status: 0 });
  connection.end({ status: 401 });
  assert.deepEqual(calls, ["ended"]);
});

test("a poll has no deadline here", async () => {
  const { clock, calls } = openConnection("poll");
  await clock.advance(60_000);
  assert.deepEqual(calls, []);
});

test("silence includes the time while the device slept", () => {
  const { clock, connection } = openConnection();
  connection.receive([]);
  clock.shiftWallClock(3_600_000);
  assert.equal(connection.silence, 3_600_000);
  clock.shiftWallClock(-86_400_000);
  clock.suspend(2_000);
  assert.equal(connection.silence, 2_000);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { Line } from "../../static/rt/line.js";
import { Clock } from "./world.js";

function opened() {
  const clock = new Clock();
  const told = [];
  const hears = {};
  for (const name of ["heard", "late", "ended"]) hears[name] = () => told.push(name);
  let closed = 0;
  const line = new Line(clock, "websocket", 5, hears).open(() => ({ close: () => closed++ }));
  return { clock, line, told, closed: () => closed };
}

test("a line without an answer is late after four seconds", async () => {
  const { clock, told } = opened();
  await clock.pass(3_999);
  assert.deepEqual(told, []);
  await clock.pass(1);
  assert.deepEqual(told, ["late"]);
});

test("a line that has answered is never late", async () => {
  const { clock, line, told } = opened();
  line.answer([]);
  await clock.pass(60_000);
  assert.deepEqual([told, line.lived], [["heard"], 60_000]);
});

test("a closed line is deaf to its transport, and the transport is closed", async () => {
  const { clock, line, told, closed } = opened();
  line.close();
  line.answer([]);
  line.ended({ status: 401 });
  await clock.pass(60_000);
  assert.deepEqual([told, closed()], [[], 1]);
});

test("a line ends once", () => {
  const { line, told } = opened();
  line.ended({ status: 0 });
  line.ended({ status: 401 });
  assert.deepEqual(told, ["ended"]);
});

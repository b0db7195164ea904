import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff, Timer, jitter } from "../../static/rt/timers.js";
import { FakeClock } from "./fake_browser.js";

const delays = (backoff, n) => Array.from({ length: n }, () => backoff.next());

test("backoff doubles from 0.5 s to 30 s", () => {
  const backoff = new Backoff({ random: () => 1 });
  assert.deepEqual(delays(backoff, 8), [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
});

test("backoff has full jitter, down to 0", () => {
  assert.deepEqual(delays(new Backoff({ random: () => 0 }), 3), [0, 0, 0]);
  assert.deepEqual(delays(new Backoff({ random: () => 0.5 }), 3), [250, 500, 1000]);
});

test("backoff starts again after a reset", () => {
  const backoff = new Backoff({ random: () => 1 });
  delays(backoff, 5);
  backoff.reset();
  assert.equal(backoff.next(), 500);
});

test("jitter never shortens a delay", () => {
  assert.deepEqual([jitter({ random: () => 0 }, 1000), jitter({ random: () => 1 }, 1000)], [1000, 1200]);
});

test("setting a timer again replaces the pending call", async () => {
  const clock = new FakeClock();
  const timer = new Timer(clock);
  const calls = [];
  timer.set(100, () => calls.push("first"));
  timer.set(200, () => calls.push("second"));
  await clock.advance(150);
  assert.deepEqual([calls, timer.pending], [[], true]);
  await clock.advance(100);
  assert.deepEqual([calls, timer.pending], [["second"], false]);
});

test("a cleared timer does not run", async () => {
  const clock = new FakeClock();
  const timer = new Timer(clock);
  timer.set(100, assert.fail);
  timer.clear();
  await clock.advance(200);
  assert.equal(timer.pending, false);
});

test("a delay longer than browsers allow is capped", () => {
  const requested = [];
  new Timer({ setTimeout: (callback, ms) => requested.push(ms) }).set(1e15, () => {});
  assert.deepEqual(requested, [2 ** 31 - 1]);
});

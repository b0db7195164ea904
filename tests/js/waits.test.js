import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff, Timer, jitter } from "../../static/rt/waits.js";
import { Clock } from "./world.js";

const bounds = (backoff, n) => Array.from({ length: n }, () => backoff.next());

test("backoff doubles from half a second to thirty", () => {
  const backoff = new Backoff({ random: () => 1 });
  assert.deepEqual(bounds(backoff, 8), [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
});

test("backoff has full jitter: anything down to nothing", () => {
  assert.deepEqual(bounds(new Backoff({ random: () => 0 }), 3), [0, 0, 0]);
  assert.deepEqual(bounds(new Backoff({ random: () => 0.5 }), 3), [250, 500, 1000]);
});

test("backoff starts anew after a reset", () => {
  const backoff = new Backoff({ random: () => 1 });
  bounds(backoff, 5);
  backoff.reset();
  assert.equal(backoff.next(), 500);
});

test("jitter is never sooner than asked", () => {
  assert.deepEqual([jitter({ random: () => 0 }, 1000), jitter({ random: () => 1 }, 1000)], [1000, 1200]);
});

test("a timer set again is moved", async () => {
  const clock = new Clock();
  const timer = new Timer(clock);
  const rung = [];
  timer.set(100, () => rung.push("first"));
  timer.set(200, () => rung.push("second"));
  await clock.pass(150);
  assert.deepEqual([rung, timer.pending], [[], true]);
  await clock.pass(100);
  assert.deepEqual([rung, timer.pending], [["second"], false]);
});

test("a timer cleared is silent", async () => {
  const clock = new Clock();
  const timer = new Timer(clock);
  timer.set(100, assert.fail);
  timer.clear();
  await clock.pass(200);
  assert.equal(timer.pending, false);
});

test("a wait longer than a browser can count does not end at once", () => {
  const asked = [];
  new Timer({ setTimeout: (act, ms) => asked.push(ms) }).set(1e15, () => {});
  assert.deepEqual(asked, [2 ** 31 - 1]);
});

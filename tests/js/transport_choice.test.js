import assert from "node:assert/strict";
import { test } from "node:test";

import { TransportChoice } from "../../static/rt/transport_choice.js";
import { FakeClock, FakeStorage } from "./fake_browser.js";

const MINUTE = 60_000;

function environment(overrides = {}) {
  const clock = new FakeClock();
  const storage = new FakeStorage();
  const transports = { websocket: null, longpoll: null, poll: null };
  const clocks = { now: clock.now, wallClock: clock.wallClock };
  return { clock, stored: storage, ...clocks, transports, storage: () => storage, ...overrides };
}

/** A connection that responded and ended after `lifetime` ms, or ended without a response (null). */
const connection = (name, lifetime = 0, openedAt = Number.MAX_VALUE) => ({
  name,
  lifetime: lifetime ?? 0,
  hasResponded: lifetime !== null,
  openedAt,
});
const open = { name: "longpoll", hasResponded: true };
const end = (choice, name, lifetime) => choice.ended(connection(name, lifetime), { status: 0 }, null);
const fail = (choice, name) => choice.ended(connection(name, null), { status: 0, timedOut: true }, open);
const serverDown = (choice) => choice.ended(connection("poll", null), { status: 0 }, null);

function onLongPoll(env) {
  const choice = new TransportChoice(env);
  fail(choice, "websocket");
  choice.responded("longpoll");
  return choice;
}

test("the order is WebSocket, long poll, poll", () => {
  const choice = new TransportChoice(environment());
  assert.equal(choice.best, "websocket");
  fail(choice, "websocket");
  assert.equal(choice.best, "longpoll");
  fail(choice, "longpoll");
  assert.equal(choice.best, "poll");
});

test("a transport fails after two short connections in a row, not after one", () => {
  const choice = new TransportChoice(environment());
  assert.equal(end(choice, "websocket", 200), false);
  assert.equal(end(choice, "websocket", 9_999), true);
  assert.equal(choice.best, "longpoll");
});

test("a connection of ten seconds resets the count of short ones", () => {
  const choice = new TransportChoice(environment());
  for (const lifetime of [200, 10_000, 200]) assert.equal(end(choice, "websocket", lifetime), false);
  assert.equal(choice.best, "websocket");
});

test("short connections are counted for each transport separately", () => {
  const choice = new TransportChoice(environment());
  end(choice, "websocket", 0);
  assert.equal(end(choice, "longpoll", 0), false);
});

test("no failure counts while the server is down, earlier ones included", () => {
  const choice = new TransportChoice(environment());
  fail(choice, "websocket");
  serverDown(choice);
  assert.equal(choice.best, "websocket");
  const failures = [fail(choice, "websocket"), end(choice, "websocket", 0), end(choice, "websocket", 0)];
  for (const failure of failures) assert.equal(failure, false);
  assert.equal(choice.best, "websocket");
});

test("after an outage failures count again, from zero", () => {
  const choice = new TransportChoice(environment());
  end(choice, "websocket", 0);
  serverDown(choice);
  choice.responded("poll");
  assert.equal(end(choice, "websocket", 0), false);
  assert.equal(end(choice, "websocket", 0), true);
});

test("a connection opened during an outage does not count when it fails later", () => {
  const env = environment();
  const choice = new TransportChoice(env);
  const early = connection("websocket", null, env.now());
  serverDown(choice);
  env.clock.suspend(1_000);
  choice.responded("poll");
  const timeOut = { status: 0, timedOut: true };
  assert.equal(choice.ended(early, timeOut, open), false);
  assert.equal(choice.ended(connection("websocket", null, env.now()), timeOut, open), true);
});

test("a response of a suspect transport clears all failures", () => {
  const env = environment();
  const choice = new TransportChoice(env);
  fail(choice, "websocket");
  choice.ended(connection("longpoll", null), { status: 0 }, open);
  choice.responded("poll");
  assert.equal(choice.best, "longpoll");
  choice.responded("longpoll");
  assert.deepEqual([choice.best, env.stored.items.size], ["websocket", 0]);
  fail(choice, "websocket");
  choice.responded("longpoll");
  assert.equal(choice.best, "longpoll");
});

test("a failure counts only if the server responds by another transport", () => {
  const choice = new TransportChoice(environment());
  const refused = () => connection("websocket", null);
  assert.equal(choice.ended(refused(), { status: 0, timedOut: true }, null), false);
  for (let i = 0; i < 3; i++) assert.equal(choice.ended(refused(), { status: 0 }, null), false);
  assert.equal(choice.ended(refused(), { status: 0 }, open), true);
});

test("a choice is stored for the next page after a response", () => {
  const env = environment();
  onLongPoll(env);
  const next = new TransportChoice(env);
  assert.deepEqual([next.best, next.left], ["longpoll", 10 * MINUTE]);
});

test("a choice without a response is not stored", () => {
  const env = environment();
  const choice = new TransportChoice(env);
  fail(choice, "websocket");
  choice.responded("poll");
  assert.equal(env.stored.items.size, 0);
});

test("a poll used during an outage is not stored", () => {
  const env = environment();
  const choice = new TransportChoice(env);
  fail(choice, "websocket");
  fail(choice, "longpoll");
  serverDown(choice);
  choice.responded("poll");
  assert.equal(env.stored.items.size, 0);
});

test("a stored choice expires after ten minutes", () => {
  const env = environment();
  onLongPoll(env);
  env.clock.suspend(10 * MINUTE - 1);
  assert.equal(new TransportChoice(env).best, "longpoll");
  env.clock.suspend(1);
  assert.equal(new TransportChoice(env).best, "websocket");
});

test("a response of the best transport removes the stored choice", () => {
  const env = environment();
  const choice = onLongPoll(env);
  assert.equal(env.stored.items.size, 1);
  choice.reset();
  choice.responded("longpoll");
  assert.equal(env.stored.items.size, 1);
  choice.responded("websocket");
  assert.equal(env.stored.items.size, 0);
});

test("too many connections: polls, without storing the choice", () => {
  const env = environment();
  const choice = new TransportChoice(env);
  assert.equal(choice.ended(connection("websocket"), { status: 429 }, null), true);
  choice.responded("poll");
  assert.deepEqual([choice.best, choice.left, env.stored.items.size], ["poll", 10 * MINUTE, 0]);
});

test("invalid content of the storage is ignored", () => {
  const env = environment();
  const far = env.wallClock() + 11 * MINUTE;
  const unknown = `{"name":"carrier_pigeon","until":${env.wallClock() + 1000}}`;
  for (const value of ["", "{", "null", "7", '{"name":"longpoll"}', unknown, `{"name":"poll","until":${far}}`]) {
    env.stored.setItem("microblog-rt.transport", value);
    assert.equal(new TransportChoice(env).best, "websocket", value);
  }
});

test("a storage that throws or is forbidden does not affect the choice", () => {
  const fail = () => {
    throw new Error("SecurityError");
  };
  for (const storage of [fail, () => ({ getItem: fail, setItem: fail, removeItem: fail }), () => null]) {
    const choice = onLongPoll(environment({ storage }));
    assert.equal(choice.best, "longpoll");
    choice.reset();
    choice.responded("websocket");
    assert.equal(choice.best, "websocket");
  }
});

test("the wall clock set back by a day extends nothing beyond ten minutes", () => {
  const env = environment();
  const choice = onLongPoll(env);
  env.clock.shiftWallClock(-86_400_000);
  assert.equal(choice.left, 10 * MINUTE);
  assert.equal(new TransportChoice(env).best, "websocket");
  env.clock.shiftWallClock(2 * 86_400_000);
  assert.equal(choice.left, 0);
});

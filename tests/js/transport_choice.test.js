import assert from "node:assert/strict";
import { test } from "node:test";

import { TransportChoice } from "../../static/rt/transport_choice.js";
import { FakeClock, FakeStorage } from "./fake_browser.js";

const MINUTE = 60_000;

function environment(overrides = {}) {
  const clock = new FakeClock();
  const storage = new FakeStorage();
  return { clock, stored: storage, now: clock.now, storage: () => storage, ...overrides };
}

const connection = (name, lifetime = 0, openedAt = Infinity) => ({ name, lifetime, openedAt });
const fail = (choice, name) => choice.transportFailed(connection(name), true);
const end = (choice, name, lifetime) => choice.connectionEnded(connection(name, lifetime), true);

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
  choice.serverDown();
  assert.equal(choice.best, "websocket");
  const failures = [fail(choice, "websocket"), end(choice, "websocket", 0), end(choice, "websocket", 0)];
  for (const failure of failures) assert.equal(failure, false);
  assert.equal(choice.best, "websocket");
});

test("after an outage failures count again, from zero", () => {
  const choice = new TransportChoice(environment());
  end(choice, "websocket", 0);
  choice.serverDown();
  choice.responded("poll");
  assert.equal(end(choice, "websocket", 0), false);
  assert.equal(end(choice, "websocket", 0), true);
});

test("a connection opened during an outage does not count when it fails later", () => {
  const env = environment();
  const choice = new TransportChoice(env);
  const early = connection("websocket", 0, env.now());
  choice.serverDown();
  env.clock.suspend(1_000);
  choice.responded("poll");
  assert.equal(choice.transportFailed(early, true), false);
  assert.equal(choice.transportFailed(connection("websocket", 0, env.now()), true), true);
});

test("a response of a suspect transport clears all failures", () => {
  const env = environment();
  const choice = new TransportChoice(env);
  fail(choice, "websocket");
  choice.suspect(connection("longpoll"));
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
  assert.equal(choice.transportFailed(connection("websocket"), false), false);
  for (let i = 0; i < 3; i++) assert.equal(choice.connectionEnded(connection("websocket"), false), false);
  assert.equal(choice.connectionEnded(connection("websocket"), true), true);
});

test("a choice is stored for the next page after a response", () => {
  const env = environment();
  onLongPoll(env);
  const next = new TransportChoice(env);
  assert.deepEqual([next.best, next.until], ["longpoll", env.now() + 10 * MINUTE]);
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
  choice.serverDown();
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
  assert.equal(choice.limitReached(), true);
  choice.responded("poll");
  assert.deepEqual([choice.best, choice.until, env.stored.items.size], ["poll", env.now() + 10 * MINUTE, 0]);
});

test("invalid content of the storage is ignored", () => {
  const env = environment();
  const far = env.now() + 11 * MINUTE;
  const unknown = `{"name":"carrier_pigeon","until":${env.now() + 1000}}`;
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

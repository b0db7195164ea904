import assert from "node:assert/strict";
import { test } from "node:test";

import { Choice } from "../../static/rt/choice.js";
import { Clock, Storage } from "./world.js";

const MINUTE = 60_000;

function world(more = {}) {
  const clock = new Clock();
  const storage = new Storage();
  return { clock, stored: storage, now: clock.now, storage: () => storage, ...more };
}

const line = (name, lived = 0, opened = Infinity) => ({ name, lived, opened });
const fail = (choice, name) => choice.failed(line(name), true);
const die = (choice, name, lived) => choice.died(line(name, lived), true);

function fallen(world) {
  const choice = new Choice(world);
  fail(choice, "websocket");
  choice.answered("longpoll");
  return choice;
}

test("the WebSocket is wanted first, then the long poll, then the poll", () => {
  const choice = new Choice(world());
  assert.equal(choice.best, "websocket");
  fail(choice, "websocket");
  assert.equal(choice.best, "longpoll");
  fail(choice, "longpoll");
  assert.equal(choice.best, "poll");
});

test("one early death is forgiven, two in a row are not", () => {
  const choice = new Choice(world());
  assert.equal(die(choice, "websocket", 200), false);
  assert.equal(die(choice, "websocket", 9_999), true);
  assert.equal(choice.best, "longpoll");
});

test("a life of ten seconds between two early deaths wipes out the first", () => {
  const choice = new Choice(world());
  for (const lived of [200, 10_000, 200]) assert.equal(die(choice, "websocket", lived), false);
  assert.equal(choice.best, "websocket");
});

test("deaths of different transports do not add up", () => {
  const choice = new Choice(world());
  die(choice, "websocket", 0);
  assert.equal(die(choice, "longpoll", 0), false);
});

test("while the server is away no failure is believed, not even earlier ones", () => {
  const choice = new Choice(world());
  fail(choice, "websocket");
  choice.away();
  assert.equal(choice.best, "websocket");
  for (const failure of [fail(choice, "websocket"), die(choice, "websocket", 0), die(choice, "websocket", 0)]) assert.equal(failure, false);
  assert.equal(choice.best, "websocket");
});

test("after it has answered again, failures are believed again, counted from nothing", () => {
  const choice = new Choice(world());
  die(choice, "websocket", 0);
  choice.away();
  choice.answered("poll");
  assert.equal(die(choice, "websocket", 0), false);
  assert.equal(die(choice, "websocket", 0), true);
});

test("a try begun while the server was away says nothing, though it fails after its return", () => {
  const it = world();
  const choice = new Choice(it);
  const early = line("websocket", 0, it.now());
  choice.away();
  it.clock.sleep(1_000);
  choice.answered("poll");
  assert.equal(choice.failed(early, true), false);
  assert.equal(choice.failed(line("websocket", 0, it.now()), true), true);
});

test("one that was in doubt and answers after all takes the blame from everything", () => {
  const it = world();
  const choice = new Choice(it);
  fail(choice, "websocket");
  choice.doubt(line("longpoll"));
  choice.answered("poll");
  assert.equal(choice.best, "longpoll");
  choice.answered("longpoll");
  assert.deepEqual([choice.best, it.stored.items.size], ["websocket", 0]);
  fail(choice, "websocket");
  choice.answered("longpoll");
  assert.equal(choice.best, "longpoll");
});

test("a failure is not believed before the server has been heard in another way", () => {
  const choice = new Choice(world());
  assert.equal(choice.failed(line("websocket"), false), false);
  for (let i = 0; i < 3; i++) assert.equal(choice.died(line("websocket"), false), false);
  assert.equal(choice.died(line("websocket"), true), true);
});

test("a choice is remembered for the next page once it has answered", () => {
  const it = world();
  fallen(it);
  const next = new Choice(it);
  assert.deepEqual([next.best, next.until], ["longpoll", it.now() + 10 * MINUTE]);
});

test("a choice that never answered is remembered by nobody", () => {
  const it = world();
  const choice = new Choice(it);
  fail(choice, "websocket");
  choice.answered("poll");
  assert.equal(it.stored.items.size, 0);
});

test("a poll that stands in while the server is away is remembered by nobody", () => {
  const it = world();
  const choice = new Choice(it);
  fail(choice, "websocket");
  fail(choice, "longpoll");
  choice.away();
  choice.answered("poll");
  assert.equal(it.stored.items.size, 0);
});

test("a remembered choice expires after ten minutes", () => {
  const it = world();
  fallen(it);
  it.clock.sleep(10 * MINUTE - 1);
  assert.equal(new Choice(it).best, "longpoll");
  it.clock.sleep(1);
  assert.equal(new Choice(it).best, "websocket");
});

test("the best answering again makes the remembered choice forgotten", () => {
  const it = world();
  const choice = fallen(it);
  assert.equal(it.stored.items.size, 1);
  choice.retry();
  choice.answered("longpoll");
  assert.equal(it.stored.items.size, 1);
  choice.answered("websocket");
  assert.equal(it.stored.items.size, 0);
});

test("too many connections means polls, for this page alone", () => {
  const it = world();
  const choice = new Choice(it);
  assert.equal(choice.limited(), true);
  choice.answered("poll");
  assert.deepEqual([choice.best, choice.until, it.stored.items.size], ["poll", it.now() + 10 * MINUTE, 0]);
});

test("what others wrote into storage is not believed", () => {
  const it = world();
  const far = it.now() + 11 * MINUTE;
  const garbage = ["", "{", "null", "7", '{"name":"longpoll"}', `{"name":"carrier","until":${it.now() + 1000}}`, `{"name":"poll","until":${far}}`];
  for (const value of garbage) {
    it.stored.setItem("microblog-rt.transport", value);
    assert.equal(new Choice(it).best, "websocket", value);
  }
});

test("storage that throws, or is forbidden, costs only the memory", () => {
  const fail = () => {
    throw new Error("SecurityError");
  };
  for (const storage of [fail, () => ({ getItem: fail, setItem: fail, removeItem: fail }), () => null]) {
    const choice = fallen(world({ storage }));
    assert.equal(choice.best, "longpoll");
    choice.retry();
    choice.answered("websocket");
    assert.equal(choice.best, "websocket");
  }
});

// The whole server goes away and comes back: every transport fails, and none of them is to blame.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Clock, Server, startedTab, tab } from "./world.js";

const MINUTE = 60_000;

function randomOf(seed) {
  return () => (seed = (seed * 16807) % 2147483647) / 2147483647;
}

for (const outage of [500, 2_000, 5_000, 9_000, 30_000, 10 * MINUTE]) {
  test(`after ${outage} ms without a server the tab is right within ten seconds, and back on its socket`, async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const { server, clock, seen, storage } = await startedTab({ random: randomOf(seed * 7919) });
      await clock.pass(MINUTE);
      server.down();
      await clock.pass(outage);
      server.up();
      server.publish(seed);
      await clock.pass(10_000);
      assert.equal(seen.badge, seed, `seed ${seed}`);
      await clock.pass(25_000);
      assert.equal(server.sockets.length, 1, `seed ${seed}`);
      assert.equal(storage.items.size, 0, `seed ${seed}`);
    }
  });
}

test("a server that goes three seconds after the page was opened is no failure of its sockets", async () => {
  for (let seed = 1; seed <= 30; seed++) {
    const { server, clock, storage } = await startedTab({ random: randomOf(seed * 104729) });
    await clock.pass(3_000);
    server.down();
    await clock.pass(4_000);
    server.up();
    await clock.pass(30_000);
    assert.deepEqual([server.sockets.length, storage.items.size], [1, 0], `seed ${seed}`);
  }
});

test("a page opened while the server is away finds its socket when it is back", async () => {
  const { client, server, clock, storage } = tab();
  server.down();
  client.start();
  await clock.pass(20_000);
  server.up();
  await clock.pass(30_000);
  assert.deepEqual([server.sockets.length, storage.items.size], [1, 0]);
});

test("a proxy that answers 502 for a server that is away is no server", async () => {
  const { server, clock, storage } = await startedTab();
  await clock.pass(MINUTE);
  server.down();
  server.poll = server.longpoll = { status: 502 };
  await clock.pass(20_000);
  server.up();
  await clock.pass(30_000);
  assert.deepEqual([server.sockets.length, storage.items.size], [1, 0]);
});

test("a network that swallows everything for a while is no failure of its sockets", async () => {
  for (const outage of [3_000, 6_000, 9_500, 15_000, 60_000]) {
    const { server, clock, storage, seen } = await startedTab();
    await clock.pass(MINUTE);
    server.down();
    server.websocket = server.longpoll = server.poll = "silent";
    await clock.pass(outage);
    server.up();
    server.publish(outage);
    await clock.pass(16_000);
    assert.equal(seen.badge, outage);
    await clock.pass(30_000);
    assert.deepEqual([server.sockets.length, storage.items.size], [1, 0], `${outage} ms`);
  }
});

test("a server that was away between two polls is no failure of what was tried meanwhile", async () => {
  let trials = 0;
  for (let seed = 1; seed <= 200; seed++) {
    const { client, server, clock, storage } = tab({ random: randomOf(seed * 49979687) });
    server.down();
    client.start();
    await clock.pass(20_000);
    server.poll = "ok";
    while (!server.answered) await clock.pass(10);
    const polls = server.count("poll");
    server.down();
    await clock.pass(4_500);
    server.up();
    if (server.count("poll") > polls) continue; // it failed as well: another test
    trials++;
    await clock.pass(40_000);
    assert.deepEqual([server.sockets.length, storage.items.size], [1, 0], `seed ${seed}`);
  }
  assert.ok(trials > 100, `${trials}`);
});

test("a drain, then a restart: the tab comes back when told, by its socket", async () => {
  const { server, clock, seen } = await startedTab();
  await clock.pass(MINUTE);
  server.down({ code: 4503, reason: "3000" });
  await clock.pass(4_000);
  server.up();
  server.publish(5);
  await clock.pass(8_000);
  assert.equal(seen.badge, 5);
  await clock.pass(5_000);
  assert.equal(server.sockets.length, 1);
});

test("while the server is away it is asked at a bearable rate", async () => {
  const { server, clock } = await startedTab();
  server.down();
  await clock.pass(MINUTE);
  const before = server.asked.length;
  await clock.pass(10 * MINUTE);
  const perMinute = (server.asked.length - before) / 10;
  assert.ok(perMinute < 20, `${perMinute} a minute`);
});

test("whatever the network did, once it lets through the poll the badge is right, and the cursor never lied", async () => {
  const moods = ["ok", "ok", "refused", "silent", { killAfter: 200 }, { killAfter: 5_000 }];
  for (let seed = 1; seed <= 60; seed++) {
    const random = randomOf(seed * 15485863);
    const clock = new Clock();
    const server = new Server(clock);
    const { client, seen } = tab({ clock, server, random });
    const pick = (list) => list[Math.floor(random() * list.length)];
    client.start();
    for (let step = 0; step < 40; step++) {
      server.websocket = pick(moods);
      server.longpoll = pick(moods);
      server.poll = pick(["ok", "refused", "silent"]);
      if (random() < 0.3) for (const socket of [...server.sockets]) socket.die(pick([1001, 1006, 1011, 4408, 1012]), "500");
      if (random() < 0.1) client.wake(random() < 0.5);
      if (random() < 0.05) client.pause(), client.start();
      server.publish(step);
      await clock.pass(random() * 8_000);
    }
    server.poll = "ok";
    await clock.pass(50_000);
    assert.equal(seen.badge, server.row.data, `seed ${seed}`);
    const told = seen.applied.flat().map(({ timestamp }) => timestamp);
    assert.deepEqual(told, [...new Set(told)].sort((a, b) => a - b), `seed ${seed}`);
  }
});

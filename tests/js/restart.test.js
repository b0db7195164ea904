// The server is down for a while: every transport fails, and none is avoided afterwards.

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeClock, FakeServer, makeTab, startTab } from "./fake_browser.js";

const MINUTE = 60_000;

function seededRandom(seed) {
  return () => (seed = (seed * 16807) % 2147483647) / 2147483647;
}

for (const outage of [500, 2_000, 5_000, 9_000, 30_000, 10 * MINUTE]) {
  test(`after ${outage} ms of outage the badge is right within 10 s, by WebSocket again`, async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const { server, clock, page, storage } = await startTab({ random: seededRandom(seed * 7919) });
      await clock.advance(MINUTE);
      server.down();
      await clock.advance(outage);
      server.up();
      server.publish(seed);
      await clock.advance(10_000);
      assert.equal(page.badge, seed, `seed ${seed}`);
      await clock.advance(25_000);
      assert.equal(server.sockets.length, 1, `seed ${seed}`);
      assert.equal(storage.items.size, 0, `seed ${seed}`);
    }
  });
}

test("an outage three seconds after loading does not count against WebSocket", async () => {
  for (let seed = 1; seed <= 30; seed++) {
    const { server, clock, storage } = await startTab({ random: seededRandom(seed * 104729) });
    await clock.advance(3_000);
    server.down();
    await clock.advance(4_000);
    server.up();
    await clock.advance(30_000);
    assert.deepEqual([server.sockets.length, storage.items.size], [1, 0], `seed ${seed}`);
  }
});

test("a page opened during an outage connects by WebSocket afterwards", async () => {
  const { client, server, clock, storage } = makeTab();
  server.down();
  client.start();
  await clock.advance(20_000);
  server.up();
  await clock.advance(30_000);
  assert.deepEqual([server.sockets.length, storage.items.size], [1, 0]);
});

test("a proxy's 502 during an outage does not count against WebSocket", async () => {
  const { server, clock, storage } = await startTab();
  await clock.advance(MINUTE);
  server.down();
  server.poll = server.longpoll = { status: 502 };
  await clock.advance(20_000);
  server.up();
  await clock.advance(30_000);
  assert.deepEqual([server.sockets.length, storage.items.size], [1, 0]);
});

test("a network that drops everything for a while does not count against WebSocket", async () => {
  for (const outage of [3_000, 6_000, 9_500, 15_000, 60_000]) {
    const { server, clock, storage, page } = await startTab();
    await clock.advance(MINUTE);
    server.down();
    server.websocket = server.longpoll = server.poll = "silent";
    await clock.advance(outage);
    server.up();
    server.publish(outage);
    await clock.advance(16_000);
    assert.equal(page.badge, outage);
    await clock.advance(30_000);
    assert.deepEqual([server.sockets.length, storage.items.size], [1, 0], `${outage} ms`);
  }
});

test("an outage between two polls does not count against other transports", async () => {
  let trials = 0;
  for (let seed = 1; seed <= 200; seed++) {
    const { client, server, clock, storage } = makeTab({ random: seededRandom(seed * 49979687) });
    server.down();
    client.start();
    await clock.advance(20_000);
    server.poll = "ok";
    while (!server.responses) await clock.advance(10);
    const polls = server.count("poll");
    server.down();
    await clock.advance(4_500);
    server.up();
    if (server.count("poll") > polls) continue; // a poll failed too: not the case tested here
    trials++;
    await clock.advance(40_000);
    assert.deepEqual([server.sockets.length, storage.items.size], [1, 0], `seed ${seed}`);
  }
  assert.ok(trials > 100, `${trials}`);
});

test("a drained tab reconnects by WebSocket at the given time", async () => {
  const { server, clock, page } = await startTab();
  await clock.advance(MINUTE);
  server.down({ code: 4503, reason: "3000" });
  await clock.advance(4_000);
  server.up();
  server.publish(5);
  await clock.advance(8_000);
  assert.equal(page.badge, 5);
  await clock.advance(5_000);
  assert.equal(server.sockets.length, 1);
});

test("during an outage a tab sends fewer than 20 requests a minute", async () => {
  const { server, clock } = await startTab();
  server.down();
  await clock.advance(MINUTE);
  const before = server.requests.length;
  await clock.advance(10 * MINUTE);
  const perMinute = (server.requests.length - before) / 10;
  assert.ok(perMinute < 20, `${perMinute} a minute`);
});

test("under random failures the badge is right once polls get through", async () => {
  const behaviours = ["ok", "ok", "refused", "silent", { killAfter: 200 }, { killAfter: 5_000 }];
  for (let seed = 1; seed <= 60; seed++) {
    const random = seededRandom(seed * 15485863);
    const clock = new FakeClock();
    const server = new FakeServer(clock);
    const { client, page } = makeTab({ clock, server, random });
    const pick = (list) => list[Math.floor(random() * list.length)];
    client.start();
    for (let step = 0; step < 40; step++) {
      server.websocket = pick(behaviours);
      server.longpoll = pick(behaviours);
      server.poll = pick(["ok", "refused", "silent"]);
      const sockets = random() < 0.3 ? [...server.sockets] : [];
      for (const socket of sockets) socket.closeWith(pick([1001, 1006, 1011, 4408, 1012]), "500");
      if (random() < 0.1) client.wake({ networkChanged: random() < 0.5 });
      if (random() < 0.05) client.pause(), client.start();
      server.publish(step);
      await clock.advance(random() * 8_000);
    }
    server.poll = "ok";
    await clock.advance(50_000);
    assert.equal(page.badge, server.row.data, `seed ${seed}`);
    const timestamps = page.applied.flat().map(({ timestamp }) => timestamp);
    assert.deepEqual(timestamps, [...new Set(timestamps)].sort((a, b) => a - b), `seed ${seed}`);
  }
});

// The rules for clients in docs/protocol.md: which connection is active, when, and which responses are applied.

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeClock, FakeServer, FakeStorage, WITH_TOKEN, makeTab, startTab } from "./fake_browser.js";

const MINUTE = 60_000;
const KEY = "microblog-rt.transport";

/** A started tab; `network` sets properties of its server. */
function openOn(network, options) {
  const tab = makeTab(options);
  Object.assign(tab.server, network);
  tab.client.start();
  return tab;
}

/** Options of a page whose stored choice is the long poll. */
function longPollStored() {
  const storage = new FakeStorage();
  const clock = new FakeClock();
  storage.setItem(KEY, JSON.stringify({ name: "longpoll", until: clock.wallClock() + MINUTE }));
  return { storage, clock };
}

const stored = ({ storage }) => JSON.parse(storage.getItem(KEY))?.name;

// The first transport

test("a healthy WebSocket sends no polls", async () => {
  const { server, page, clock } = await startTab();
  server.publish(4);
  assert.equal(page.badge, 4);
  await clock.advance(MINUTE);
  assert.deepEqual(server.requests.map(({ kind }) => kind), ["websocket"]);
});

test("a page starts from the cursor it was rendered with", async () => {
  const { server } = await startTab({ since: 1000.125 });
  assert.equal(server.requests[0].since, "1000.125");
});

test("a socket silent for four seconds fails; a poll updates the badge meanwhile", async () => {
  const { server, page, clock } = openOn({ websocket: "silent" });
  server.publish(2);
  await clock.advance(1_500);
  assert.equal(page.badge, 2);
  assert.equal(server.count("longpoll"), 0);
  await clock.advance(2_600);
  assert.ok(server.count("longpoll") > 0);
  server.publish(3);
  await clock.advance(50);
  assert.equal(page.badge, 3);
  assert.equal(server.count("websocket"), 1);
});

test("a socket that responds in under four seconds has not failed", async () => {
  const { server, clock } = openOn({ latency: 3_900 });
  await clock.advance(10_000);
  assert.equal(server.sockets.length, 1);
  assert.equal(server.count("longpoll"), 0);
});

for (const random of [0, 0.5, 0.999]) {
  test(`sockets killed after 200 ms: long poll within 3 s (random ${random})`, async () => {
    const { server, page, clock } = openOn({ websocket: { killAfter: 200 }, latency: 100 }, { random: () => random });
    await clock.advance(3_000);
    server.publish(6);
    await clock.advance(150);
    assert.equal(page.badge, 6);
    assert.deepEqual([server.count("websocket"), server.count("poll")], [2, 0]);
  });
}

test("sockets refused while polls succeed: long poll", async () => {
  const tab = openOn({ websocket: "refused" });
  await tab.clock.advance(3_000);
  assert.equal(stored(tab), "longpoll");
});

test("a held request cut twice within ten seconds: poll", async () => {
  const tab = openOn({ websocket: "refused", longpoll: { killAfter: 8_000 } });
  await tab.clock.advance(40_000);
  assert.equal(stored(tab), "poll");
  const held = tab.server.count("longpoll");
  await tab.clock.advance(MINUTE);
  assert.equal(tab.server.count("longpoll"), held);
  tab.server.publish(5);
  await tab.clock.advance(7_000);
  assert.equal(tab.page.badge, 5);
});

test("sockets that last eleven seconds do not count as failed", async () => {
  const { server, clock } = openOn({ websocket: { killAfter: 11_000 } });
  await clock.advance(10 * MINUTE);
  assert.equal(server.count("longpoll"), 0);
});

test("only polls respond within four seconds: poll", async () => {
  const tab = openOn({ websocket: "silent", longpoll: "silent" });
  await tab.clock.advance(15_000);
  assert.equal(stored(tab), "poll");
});

for (const [failure, longpoll, random] of [
  ["no response", "refused", 0.5],
  ["status 502", { status: 502 }, 0],
  ["status 503", { status: 503 }, 0.999],
]) {
  test(`long polls with ${failure} while polls succeed: poll`, async () => {
    const tab = openOn({ websocket: "refused", longpoll }, { random: () => random });
    await tab.clock.advance(45_000);
    assert.equal(stored(tab), "poll");
    const requests = tab.server.count("longpoll") + tab.server.count("websocket");
    await tab.clock.advance(MINUTE);
    assert.equal(tab.server.count("longpoll") + tab.server.count("websocket"), requests);
    tab.server.publish(5);
    await tab.clock.advance(7_000);
    assert.equal(tab.page.badge, 5);
  });
}

test("a long poll refused next to a successful poll, then answered, was an outage", async () => {
  const tab = openOn({ websocket: "refused", longpoll: "refused" });
  while (!tab.server.count("longpoll")) await tab.clock.advance(10);
  assert.equal(tab.server.responses, 1); // the poll, once
  tab.server.up();
  await tab.clock.advance(20_000);
  assert.deepEqual([tab.server.sockets.length, stored(tab)], [1, undefined]);
});

// Which responses are applied

test("output of an abandoned socket is dropped and moves no cursor", async () => {
  const { server, page, clock } = await startTab({ heartbeat: 1_000 });
  const [abandoned] = server.sockets;
  const { onmessage } = abandoned;
  server.heartbeat = Infinity;
  await clock.advance(5_000); // the socket is silent and is replaced by another
  server.publish(1);
  const late = { name: "unread_message_count", data: 99, timestamp: server.time + 50 };
  onmessage({ data: JSON.stringify([late]) });
  assert.equal(page.badge, 1);
  for (const socket of [...server.sockets]) socket.closeWith(1006);
  await clock.advance(1_000);
  assert.equal(server.requests.at(-1).since, String(server.time));
});

test("output of a superseded poll is dropped", async () => {
  const resolvers = [];
  const pending = () => new Promise((resolve) => resolvers.push(resolve));
  const { server, clock, page } = openOn({ websocket: "silent" }, { fetch: pending });
  await clock.advance(1_500);
  assert.equal(resolvers.length, 1); // the poll is pending, and ignores abort()
  server.websocket = "ok";
  await clock.advance(8_000);
  assert.equal(server.sockets.length, 1);
  const body = [{ name: "unread_message_count", data: 99, timestamp: 5_000 }];
  resolvers[0]({ status: 200, headers: new Headers(), json: async () => body });
  await clock.advance(10);
  assert.deepEqual(page.applied, []);
});

test("an older response activates a candidate and undoes no newer value", async () => {
  const { server, clock, page, client } = await startTab();
  server.websocket = "silent";
  client.wake({ networkChanged: true });
  await clock.advance(5);
  const [active, candidate] = server.handshakes;
  server.publish(2); // received by the active socket; the candidate's response was read just before
  candidate.deliver(JSON.stringify([{ ...server.row, data: 1, timestamp: server.time - 0.5 }]));
  assert.deepEqual([page.badge, active.open], [2, false]);
  candidate.deliver(JSON.stringify([server.row]));
  candidate.deliver(JSON.stringify([{ ...server.row, data: 3, timestamp: server.time + 1 }]));
  assert.equal(page.badge, 3);
});

test("a candidate without a response does not affect the active socket", async () => {
  const { server, clock, page, client } = await startTab();
  server.websocket = "silent";
  client.wake({ networkChanged: true });
  await clock.advance(3_000);
  server.publish(2);
  assert.equal(page.badge, 2);
});

test("a refused candidate closes an active socket that died silently", async () => {
  const { server, clock, page, client } = await startTab();
  server.sockets = []; // the network has changed, and the socket got no close event
  server.publish(3);
  server.websocket = "refused";
  client.wake({ networkChanged: true });
  await clock.advance(15);
  server.websocket = "ok";
  await clock.advance(1_000);
  assert.deepEqual([page.badge, server.sockets.length], [3, 1]);
});

test("a silent candidate closes an active socket that died silently", async () => {
  const tab = await startTab();
  tab.server.websocket = "silent";
  tab.server.sockets = []; // the network has changed, and the socket got no close event
  tab.server.publish(3);
  tab.client.wake({ networkChanged: true });
  await tab.clock.advance(5_500);
  assert.equal(tab.page.badge, 3);
  await tab.clock.advance(10_000);
  assert.equal(stored(tab), "longpoll");
});

test("merge() applies notifications and moves no cursor", async () => {
  const { server, page, client, clock } = await startTab();
  client.merge([{ name: "unread_message_count", data: 0, timestamp: 1_100 }]);
  assert.equal(page.badge, 0);
  server.sockets[0].closeWith(1006);
  await clock.advance(1_000);
  assert.equal(server.requests.at(-1).since, "1000.25");
});

test("a frame older than a merged response is dropped, a newer one applied", async () => {
  const { server, page, client } = await startTab();
  client.merge([{ name: "unread_message_count", data: 0, timestamp: server.time + 1.5 }]);
  server.publish(3); // committed before, delivered after
  assert.equal(page.badge, 0);
  server.publish(4);
  assert.equal(page.badge, 4);
});

test("values of a server restored to an earlier time are applied", async () => {
  const { server, page, clock } = await startTab({ since: 2_000 });
  server.time = 1_500;
  server.publish(8);
  server.sockets[0].closeWith(1006);
  await clock.advance(1_000);
  assert.equal(page.badge, 8);
  server.publish(9);
  assert.equal(page.badge, 9);
});

test("a reconnect continues from the last applied timestamp", async () => {
  const { server, clock, page } = await startTab();
  server.publish(1);
  const cursor = String(server.time);
  server.sockets[0].closeWith(1006);
  server.publish(2);
  await clock.advance(1_000);
  assert.equal(server.requests.at(-1).since, cursor);
  assert.equal(page.badge, 2);
});

// The stored choice

test("the next page starts with the stored choice", async () => {
  const first = openOn({ websocket: "refused" });
  await first.clock.advance(3_000);
  const { server, clock } = openOn({}, { clock: first.clock, storage: first.storage });
  await clock.advance(100);
  assert.deepEqual(server.requests.map(({ kind }) => kind), ["longpoll", "longpoll"]);
  await clock.advance(10 * MINUTE);
  assert.equal(server.sockets.length, 1);
});

test("after ten minutes a better transport is tried and used once it responds", async () => {
  const tab = openOn({ websocket: "refused" });
  await tab.clock.advance(3_000);
  tab.server.websocket = "ok";
  await tab.clock.advance(10 * MINUTE - 4_000);
  assert.equal(tab.server.sockets.length, 0);
  await tab.clock.advance(4_000);
  assert.equal(tab.server.sockets.length, 1);
  assert.equal(stored(tab), undefined);
  const held = tab.server.count("longpoll");
  tab.server.publish(1);
  await tab.clock.advance(MINUTE);
  assert.deepEqual([tab.page.badge, tab.server.count("longpoll")], [1, held]);
});

test("a better transport that fails in the background is avoided for ten more minutes", async () => {
  const tab = openOn({ websocket: "refused" });
  await tab.clock.advance(3_000);
  tab.server.websocket = "silent";
  await tab.clock.advance(10 * MINUTE - 2_000);
  const tries = tab.server.count("websocket");
  assert.equal(tries, 3);
  tab.server.publish(1);
  await tab.clock.advance(50);
  assert.equal(tab.page.badge, 1);
  await tab.clock.advance(9 * MINUTE);
  assert.deepEqual([tab.server.count("websocket"), tab.server.count("poll"), stored(tab)], [tries, 1, "longpoll"]);
});

test("a better transport refused in the background is tried twice", async () => {
  const tab = openOn({ websocket: "refused" });
  await tab.clock.advance(3_000);
  const tries = tab.server.count("websocket");
  await tab.clock.advance(10 * MINUTE);
  assert.deepEqual([tab.server.count("websocket"), stored(tab)], [tries + 2, "longpoll"]);
});

test("a storage that throws does not affect the search", async () => {
  const storage = () => {
    throw new Error("SecurityError");
  };
  const clock = new FakeClock();
  const server = new FakeServer(clock);
  const tab = makeTab({ clock, server });
  tab.env.storage = storage;
  server.websocket = { killAfter: 200 };
  tab.client.start();
  await clock.advance(3_000);
  server.publish(1);
  await clock.advance(50);
  assert.equal(tab.page.badge, 1);
});

// Retrying at once

test("the online event retries at once, whatever the backoff", async () => {
  const { server, clock, client, page } = await startTab();
  server.down();
  await clock.advance(10 * MINUTE);
  server.up();
  server.publish(3);
  client.wake({ networkChanged: true });
  await clock.advance(50);
  assert.equal(page.badge, 3);
  assert.equal(server.sockets.length, 1);
});

test("a page that becomes visible without a connection retries at once", async () => {
  const { server, clock, client, page } = await startTab();
  server.down();
  await clock.advance(10 * MINUTE);
  server.up();
  server.publish(3);
  client.wake();
  await clock.advance(50);
  assert.deepEqual([page.badge, server.sockets.length], [3, 1]);
});

test("a page that becomes visible polls at once", async () => {
  const { server, clock, client, page } = await startTab();
  server.down();
  await clock.advance(10 * MINUTE);
  server.up();
  server.websocket = "silent";
  server.publish(3);
  client.wake();
  await clock.advance(50);
  assert.equal(page.badge, 3);
});

for (const networkChanged of [true, false]) {
  test(`an unanswered request does not delay a retry at once (${networkChanged ? "online" : "visible"})`, async () => {
    const { server, clock, client, page } = await startTab();
    server.down();
    server.websocket = server.longpoll = server.poll = "silent";
    await clock.advance(MINUTE);
    const age = (kind) => clock.now() - server.requests.findLast((request) => request.kind === kind).at;
    const between = (low, ms, high) => low < ms && ms < high;
    while (!(between(1_000, age("websocket"), 3_000) && between(1_000, age("poll"), 9_000))) await clock.advance(100);
    server.up();
    server.publish(3);
    client.wake({ networkChanged });
    await clock.advance(50);
    assert.deepEqual([page.badge, server.sockets.length], [3, 1]);
  });
}

test("an attempt under way is not repeated by a retry at once", async () => {
  const { server, clock, client } = openOn({ latency: 900 });
  await clock.advance(500);
  client.wake({ networkChanged: true });
  await clock.advance(500);
  assert.deepEqual([server.count("websocket"), server.sockets.length], [1, 1]);
});

test("a page that becomes visible keeps a healthy socket", async () => {
  const { server, clock, client } = await startTab();
  client.wake();
  await clock.advance(1_000);
  assert.deepEqual(server.requests.map(({ kind }) => kind), ["websocket"]);
});

test("a network change opens a second socket, which replaces the first", async () => {
  const { server, clock, client } = await startTab();
  const [old] = server.sockets;
  client.wake({ networkChanged: true });
  await clock.advance(5);
  assert.deepEqual([old.open, server.count("websocket")], [true, 2]);
  await clock.advance(50);
  assert.equal(old.open, false);
  assert.equal(server.sockets.length, 1);
});

test("a tab frozen for an hour is up to date at once", async () => {
  const { server, clock, client, page } = await startTab();
  const [old] = server.sockets;
  server.sockets = []; // it died without a close event
  clock.suspend(3_600_000);
  server.publish(7);
  client.wake();
  await clock.advance(50);
  assert.equal(page.badge, 7);
  assert.equal(old.open, false);
});

test("a paused page sends nothing and continues from its cursor", async () => {
  const { server, clock, client, page } = await startTab();
  server.publish(1);
  const cursor = String(server.time);
  client.pause();
  const requests = server.requests.length;
  server.publish(2);
  await clock.advance(MINUTE);
  assert.deepEqual([server.sockets.length, server.requests.length, page.badge], [0, requests, 1]);
  client.start();
  await clock.advance(50);
  assert.deepEqual([server.requests.at(-1).since, page.badge, server.sockets.length], [cursor, 2, 1]);
});

test("a deadline that passed while the page was suspended is no failure", async () => {
  const { server, clock, client } = openOn({ websocket: "silent" });
  await clock.advance(1_500); // a poll has responded meanwhile
  clock.suspend(3_600_000);
  server.websocket = "ok";
  await clock.advance(5_000);
  assert.equal(server.sockets.length, 1);
  client.pause();
});

// Status and close codes

for (const [code, refusal, event] of [
  [4401, "signed_out", "signedOut"],
  [4403, "forbidden", "offline"],
]) {
  test(`${code} sends a poll, whose refusal stops the client`, async () => {
    const { server, page, clock } = await startTab();
    server.poll = refusal;
    server.sockets[0].closeWith(code);
    await clock.advance(30 * MINUTE);
    assert.deepEqual([page.events.at(-1), server.count("poll"), server.count("websocket")], [event, 1, 1]);
  });

  test(`a refused socket sends a poll, whose ${refusal} is asked once more and stops the client`, async () => {
    const { server, page, clock } = openOn({ websocket: "refused", poll: refusal });
    await clock.advance(500);
    assert.equal(page.events.at(-1), event);
    await clock.advance(30 * MINUTE);
    assert.deepEqual([server.count("websocket"), server.count("poll")], [1, 2]);
  });

  test(`a long poll's ${refusal} is confirmed by a poll and stops the client`, async () => {
    const { server, page, clock } = openOn({ longpoll: refusal, poll: refusal }, longPollStored());
    await clock.advance(30 * MINUTE);
    assert.equal(page.events.at(-1), event);
    assert.deepEqual([server.count("longpoll"), server.count("poll")], [1, 1]);
  });
}

for (const status of [401, 403, 404, 407, 502]) {
  test(`a proxy's ${status} stops nothing`, async () => {
    const { server, page, clock } = await startTab();
    server.down();
    server.poll = server.longpoll = { status, headers: { "Content-Type": "text/html" } };
    await clock.advance(10 * MINUTE);
    assert.equal(page.events.includes("signedOut"), false);
    server.up();
    server.publish(3);
    await clock.advance(8_000);
    assert.equal(page.badge, 3);
    await clock.advance(30_000);
    assert.equal(server.sockets.length, 1);
  });
}

for (const event of ["start", "wake"]) {
  test(`a stopped client asks again on ${event} and resumes after a 200`, async () => {
    const { server, page, clock, client } = await startTab();
    server.poll = "signed_out";
    server.sockets[0].closeWith(4401);
    await clock.advance(MINUTE);
    client[event]();
    await clock.advance(MINUTE);
    assert.deepEqual([server.count("poll"), client.state], [2, "stopped"]);
    server.up();
    server.publish(4);
    client[event]();
    await clock.advance(50);
    assert.deepEqual([page.badge, page.events.at(-1)], [4, "online"]);
    await clock.advance(1_000);
    assert.equal(server.sockets.length, 1);
  });
}

test("after 4401 a new session of the browser is used", async () => {
  const { server, page, clock } = await startTab();
  server.sockets[0].closeWith(4401);
  server.publish(1);
  await clock.advance(500);
  assert.deepEqual([page.badge, page.events.includes("signedOut")], [1, false]);
  await clock.advance(5_000);
  assert.equal(server.sockets.length, 1);
  server.publish(2);
  assert.equal(page.badge, 2);
});

test("4429 falls back to polls and stores no choice", async () => {
  const tab = await startTab();
  tab.server.sockets[0].closeWith(4429);
  tab.server.publish(1);
  await tab.clock.advance(100);
  assert.equal(tab.page.badge, 1);
  await tab.clock.advance(5 * MINUTE);
  assert.deepEqual([tab.server.count("websocket"), tab.server.count("longpoll"), stored(tab)], [1, 0, undefined]);
  await tab.clock.advance(5 * MINUTE);
  assert.equal(tab.server.sockets.length, 1);
});

test("a long poll's 429 falls back to polls after Retry-After", async () => {
  const { server, clock } = openOn({ longpoll: { status: 429, headers: { "Retry-After": "20" } } }, longPollStored());
  await clock.advance(20_000);
  assert.equal(server.requests.length, 1);
  await clock.advance(8 * MINUTE);
  assert.deepEqual([server.count("longpoll"), server.count("websocket")], [1, 0]);
  assert.ok(server.count("poll") > 60);
});

for (const status of [429, 503]) {
  test(`no request before the Retry-After of a poll's ${status}, not even a retry at once`, async () => {
    const poll = { status, headers: { "Retry-After": "60" } };
    const { server, clock, client } = openOn({ websocket: "refused", poll });
    await clock.advance(1_000);
    const before = server.requests.length;
    await clock.advance(30_000);
    client.wake({ networkChanged: true });
    await clock.advance(28_500);
    assert.equal(server.requests.length, before);
    server.up();
    await clock.advance(1_000);
    assert.ok(server.requests.length > before);
  });
}

test("a long poll's 503 with Retry-After does not count against long polls", async () => {
  const tab = openOn({ websocket: "refused", longpoll: { status: 503, headers: { "Retry-After": "20" } } });
  await tab.clock.advance(5 * MINUTE);
  assert.ok(tab.server.count("longpoll") > 2);
  assert.equal(stored(tab), undefined);
});

test("4503: reconnects after the given milliseconds, not before", async () => {
  const { server, clock } = await startTab();
  server.sockets[0].closeWith(4503, "7000");
  await clock.advance(6_900);
  assert.equal(server.requests.length, 1);
  await clock.advance(200);
  assert.equal(server.sockets.length, 1);
});

test("4503: a wait is five minutes at most", async () => {
  const { server, clock } = await startTab();
  server.sockets[0].closeWith(4503, "1e12");
  await clock.advance(5 * MINUTE + 50);
  assert.equal(server.sockets.length, 1);
});

for (const random of [0, 0.5, 0.999]) {
  test(`1012: reconnects within a second, whatever its reason (random ${random})`, async () => {
    const { server, clock } = await startTab({ random: () => random });
    await clock.advance(MINUTE);
    server.sockets[0].closeWith(1012, "60000");
    await clock.advance(1_000);
    assert.deepEqual(server.requests.map(({ kind }) => kind), ["websocket", "websocket"]);
    assert.equal(server.requests[1].at, server.requests[0].at + MINUTE + 100 + random * 900);
  });
}

test("1012, then 503: waits for Retry-After", async () => {
  const { server, clock, page } = await startTab();
  server.down({ code: 1012, reason: "5000" });
  server.poll = { status: 503, headers: { "Retry-After": "20" } };
  await clock.advance(1_100);
  const refused = server.requests.length;
  await clock.advance(18_000);
  assert.equal(server.requests.length, refused);
  server.up();
  server.publish(1);
  await clock.advance(3_000);
  assert.deepEqual([page.badge, server.sockets.length], [1, 1]);
});

test("a long poll's 503 delays streams until Retry-After; polls go on", async () => {
  const refused = { status: 503, headers: { "Retry-After": "60" } };
  const { server, clock, page } = openOn({ websocket: "refused", longpoll: refused }, longPollStored());
  await clock.advance(10_000);
  server.publish(2);
  await clock.advance(8_000);
  assert.deepEqual([page.badge, server.count("longpoll"), server.count("websocket")], [2, 1, 0]);
});

test("a drain soon after connecting is no failure", async () => {
  const { server, clock } = await startTab();
  for (let i = 0; i < 4; i++) {
    server.sockets[0].closeWith(4503, "100");
    await clock.advance(1_000 + i * 4_000);
  }
  assert.equal(server.sockets.length, 1);
  assert.equal(server.count("longpoll"), 0);
});

test("Poll-After holds although a socket was open in between", async () => {
  const { server, clock } = openOn({ websocket: "silent", pollAfter: "30" });
  await clock.advance(2_000);
  server.handshakes[0].accept({ killAfter: 500 });
  await clock.advance(28_000);
  assert.equal(server.count("poll"), 1);
  await clock.advance(2_000);
  assert.equal(server.count("poll"), 2);
});

test("a retry delayed by Retry-After is cancelled when a socket responds", async () => {
  const poll = { status: 503, headers: { "Retry-After": "20" } };
  const { server, clock, client } = openOn({ websocket: "silent", poll });
  await clock.advance(1_500);
  client.wake({ networkChanged: true });
  await clock.advance(500);
  server.handshakes[0].accept({});
  await clock.advance(MINUTE);
  assert.deepEqual([server.handshakes.length, server.sockets.length], [1, 1]);
});

// Backoff

test("the backoff resets only after a connection of thirty seconds", async () => {
  const gaps = async (killAfter) => {
    const { server, clock } = openOn({ websocket: { killAfter } });
    await clock.advance(5 * MINUTE);
    const times = server.requests.filter(({ kind }) => kind === "websocket").map(({ at }) => at);
    return times.slice(1).map((at, i) => at - times[i] - killAfter - server.latency);
  };
  assert.deepEqual((await gaps(29_900)).slice(0, 4), [250, 500, 1000, 2000]);
  assert.deepEqual((await gaps(30_100)).slice(0, 4), [250, 250, 250, 250]);
});

test("a socket silent for 2.5 heartbeats is replaced", async () => {
  const { server, clock } = await startTab();
  server.heartbeat = Infinity;
  await clock.advance(20_000); // the heartbeat already scheduled
  const [old] = server.sockets;
  await clock.advance(51_000);
  assert.equal(old.open, false);
  assert.equal(server.sockets.length, 1);
});

// What the client reports to the page

test("responses report online, the end of the connection reports reconnecting", async () => {
  const { server, page, clock } = await startTab();
  assert.deepEqual(page.events, ["reconnecting", "online"]);
  server.sockets[0].closeWith(1006);
  assert.equal(page.events.at(-1), "reconnecting");
  await clock.advance(500);
  assert.equal(page.events.at(-1), "online");
  await clock.advance(40_000);
  assert.deepEqual(page.events.slice(-2), ["online", "online"]);
});

// A client with a token: server-sent events, long poll, poll

const withToken = { transports: WITH_TOKEN };

test("with a token: every count arrives by server-sent events", async () => {
  const { server, page, clock, client } = await startTab(withToken);
  for (const count of [1, 2, 3, 0]) {
    server.publish(count);
    await clock.advance(10);
    assert.equal(page.badge, count);
  }
  assert.deepEqual([client.state, server.requests.map(({ kind }) => kind)], ["connected", ["sse"]]);
});

for (const [case_, network] of [
  ["are refused", { sse: "refused" }],
  ["are held back", { sse: "silent" }],
  ["end after 200 ms", { sse: { killAfter: 200 } }],
  ["get an array", { sse: { status: 200, body: [] } }],
]) {
  test(`with a token: server-sent events ${case_} by the network: long poll`, async () => {
    const tab = openOn(network, withToken);
    await tab.clock.advance(10_000);
    assert.deepEqual([stored(tab), tab.client.state], ["longpoll", "connected"]);
    tab.server.publish(6);
    await tab.clock.advance(50);
    assert.equal(tab.page.badge, 6);
  });
}

test("with a token: a cut stream is opened again from the cursor", async () => {
  const { server, page, clock } = await startTab(withToken);
  server.publish(1);
  await clock.advance(MINUTE);
  server.streams[0].fail();
  server.publish(2);
  await clock.advance(1_000);
  assert.deepEqual(page.applied.flat().map(({ data }) => data), [1, 2]);
  assert.equal(server.requests.at(-1).since, "1001.500001");
});

test("with a token: a drain is followed within a second and counts against no transport", async () => {
  const tab = await startTab({ ...withToken, random: () => 0.999 });
  for (let i = 0; i < 4; i++) {
    tab.server.streams[0].write("retry: 60000\n");
    tab.server.streams[0].end();
    await tab.clock.advance(1_000);
    assert.equal(tab.server.streams.length, 1);
  }
  assert.deepEqual([stored(tab), tab.server.count("longpoll")], [undefined, 0]);
});

test("with a token: its end stops the client, a new token resumes it", async () => {
  const { server, page, clock, client } = await startTab(withToken);
  server.sse = server.longpoll = server.poll = "signed_out";
  server.streams[0].end();
  await clock.advance(2_000);
  assert.deepEqual([client.state, page.events.at(-1)], ["stopped", "signedOut"]);
  server.up();
  client.wake();
  await clock.advance(2_000);
  assert.deepEqual([client.state, server.streams.length], ["connected", 1]);
});

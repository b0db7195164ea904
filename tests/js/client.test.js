// The client's rule, sentence by sentence: which transport is live, when, and whose answers count.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Clock, Server, Storage, startedTab, tab } from "./world.js";

const MINUTE = 60_000;
const KEY = "microblog-rt.transport";

/** A tab on a network that treats the transports so. */
function on(network, options) {
  const made = tab(options);
  Object.assign(made.server, network);
  made.client.start();
  return made;
}

const stored = ({ storage }) => JSON.parse(storage.getItem(KEY))?.name;

// The first choice

test("a healthy WebSocket is all there is: no poll is asked", async () => {
  const { server, seen, clock } = await startedTab();
  server.publish(4);
  assert.equal(seen.badge, 4);
  await clock.pass(MINUTE);
  assert.deepEqual(server.asked.map(({ kind }) => kind), ["websocket"]);
});

test("a page starts from the cursor it was rendered with", async () => {
  const { server } = await startedTab({ since: 1000.125 });
  assert.equal(server.asked[0].since, "1000.125");
});

test("a socket that says nothing for four seconds has failed, and a poll keeps the badge meanwhile", async () => {
  const { server, seen, clock } = on({ websocket: "silent" });
  server.publish(2);
  await clock.pass(1_500);
  assert.equal(seen.badge, 2);
  assert.equal(server.count("longpoll"), 0);
  await clock.pass(2_600);
  assert.ok(server.count("longpoll") > 0);
  server.publish(3);
  await clock.pass(50);
  assert.equal(seen.badge, 3);
  assert.equal(server.count("websocket"), 1);
});

test("a socket that answers in under four seconds has not failed", async () => {
  const { server, clock } = on({ latency: 3_900 });
  await clock.pass(10_000);
  assert.equal(server.sockets.length, 1);
  assert.equal(server.count("longpoll"), 0);
});

for (const random of [0, 0.5, 0.999]) {
  test(`a socket killed 200 ms after each first frame ends on the long poll within 3 s (random ${random})`, async () => {
    const { server, seen, clock } = on({ websocket: { killAfter: 200 }, latency: 100 }, { random: () => random });
    await clock.pass(3_000);
    server.publish(6);
    await clock.pass(150);
    assert.equal(seen.badge, 6);
    assert.deepEqual([server.count("websocket"), server.count("poll")], [2, 0]);
  });
}

test("sockets refused though the poll answers end on the long poll", async () => {
  const it = on({ websocket: "refused" });
  await it.clock.pass(3_000);
  assert.equal(stored(it), "longpoll");
});

test("a held question cut twice within ten seconds ends on the poll", async () => {
  const it = on({ websocket: "refused", longpoll: { killAfter: 8_000 } });
  await it.clock.pass(40_000);
  assert.equal(stored(it), "poll");
  const held = it.server.count("longpoll");
  await it.clock.pass(MINUTE);
  assert.equal(it.server.count("longpoll"), held);
  it.server.publish(5);
  await it.clock.pass(7_000);
  assert.equal(it.seen.badge, 5);
});

test("sockets that live eleven seconds each never count as failed", async () => {
  const { server, clock } = on({ websocket: { killAfter: 11_000 } });
  await clock.pass(10 * MINUTE);
  assert.equal(server.count("longpoll"), 0);
});

test("when nothing answers in four seconds but polls, polls it is", async () => {
  const it = on({ websocket: "silent", longpoll: "silent" });
  await it.clock.pass(15_000);
  assert.equal(stored(it), "poll");
});

for (const [how, longpoll, random] of [["not answered", "refused", 0.5], ["502", { status: 502 }, 0], ["503", { status: 503 }, 0.999]]) {
  test(`long polls that are ${how} while polls are answered have failed: polls it is`, async () => {
    const it = on({ websocket: "refused", longpoll }, { random: () => random });
    await it.clock.pass(45_000);
    assert.equal(stored(it), "poll");
    const asked = it.server.count("longpoll") + it.server.count("websocket");
    await it.clock.pass(MINUTE);
    assert.equal(it.server.count("longpoll") + it.server.count("websocket"), asked);
    it.server.publish(5);
    await it.clock.pass(7_000);
    assert.equal(it.seen.badge, 5);
  });
}

test("a long poll refused beside a healthy poll and answered later was an outage: sockets are not to blame", async () => {
  const it = on({ websocket: "refused", longpoll: "refused" });
  while (!it.server.count("longpoll")) await it.clock.pass(10);
  assert.equal(it.server.answered, 1); // the poll, once
  it.server.up();
  await it.clock.pass(20_000);
  assert.deepEqual([it.server.sockets.length, stored(it)], [1, undefined]);
});

// Whose answers count

test("what an abandoned socket still delivers is dropped, and moves no cursor", async () => {
  const { server, seen, clock } = await startedTab({ heartbeat: 1_000 });
  const [abandoned] = server.sockets;
  const { onmessage } = abandoned;
  server.heartbeat = Infinity;
  await clock.pass(5_000); // silence: the socket is given up, another is opened
  server.publish(1);
  const late = { name: "unread_message_count", data: 99, timestamp: server.time + 50 };
  onmessage({ data: JSON.stringify([late]) });
  assert.equal(seen.badge, 1);
  for (const socket of [...server.sockets]) socket.die(1006);
  await clock.pass(1_000);
  assert.equal(server.asked.at(-1).since, String(server.time));
});

test("what a superseded poll still delivers is dropped", async () => {
  const answers = [];
  const slow = () => new Promise((answer) => answers.push(answer));
  const { server, clock, seen } = on({ websocket: "silent" }, { fetch: slow });
  await clock.pass(1_500);
  assert.equal(answers.length, 1); // the poll is under way, deaf to being aborted
  server.websocket = "ok";
  await clock.pass(8_000);
  assert.equal(server.sockets.length, 1);
  const body = [{ name: "unread_message_count", data: 99, timestamp: 5_000 }];
  answers[0]({ status: 200, headers: new Headers(), json: async () => body });
  await clock.pass(10);
  assert.deepEqual(seen.applied, []);
});

test("a candidate's older answer takes over without undoing a newer value", async () => {
  const { server, clock, seen, client } = await startedTab();
  server.websocket = "silent";
  client.wake(true);
  await clock.pass(5);
  const [live, candidate] = server.handshakes;
  server.publish(2); // told by the live one; the candidate's answer was read just before
  candidate.deliver(JSON.stringify([{ ...server.row, data: 1, timestamp: server.time - 0.5 }]));
  assert.deepEqual([seen.badge, live.open], [2, false]);
  candidate.deliver(JSON.stringify([server.row]));
  candidate.deliver(JSON.stringify([{ ...server.row, data: 3, timestamp: server.time + 1 }]));
  assert.equal(seen.badge, 3);
});

test("a candidate that has not answered leaves what is live alone", async () => {
  const { server, clock, seen, client } = await startedTab();
  server.websocket = "silent";
  client.wake(true);
  await clock.pass(3_000);
  server.publish(2);
  assert.equal(seen.badge, 2);
});

test("a candidate refused beside a socket that died unnoticed does not leave the page with the dead one", async () => {
  const { server, clock, seen, client } = await startedTab();
  server.sockets = []; // the network is another, and nobody told the socket
  server.publish(3);
  server.websocket = "refused";
  client.wake(true);
  await clock.pass(15);
  server.websocket = "ok";
  await clock.pass(1_000);
  assert.deepEqual([seen.badge, server.sockets.length], [3, 1]);
});

test("a candidate beside a socket that died unnoticed, and silent too, ends the doubt: polls and a new search", async () => {
  const it = await startedTab();
  it.server.websocket = "silent";
  it.server.sockets = []; // the network is another, and nobody told the socket
  it.server.publish(3);
  it.client.wake(true);
  await it.clock.pass(5_500);
  assert.equal(it.seen.badge, 3);
  await it.clock.pass(10_000);
  assert.equal(stored(it), "longpoll");
});

test("a merged answer is applied and moves no cursor", async () => {
  const { server, seen, client, clock } = await startedTab();
  client.merge([{ name: "unread_message_count", data: 0, timestamp: 1_100 }]);
  assert.equal(seen.badge, 0);
  server.sockets[0].die(1006);
  await clock.pass(1_000);
  assert.equal(server.asked.at(-1).since, "1000.25");
});

test("a frame older than a merged answer does not bring the old count back, the next newer one does", async () => {
  const { server, seen, client } = await startedTab();
  client.merge([{ name: "unread_message_count", data: 0, timestamp: server.time + 1.5 }]);
  server.publish(3); // committed before, delivered after
  assert.equal(seen.badge, 0);
  server.publish(4);
  assert.equal(seen.badge, 4);
});

test("a server restored to an earlier time is believed", async () => {
  const { server, seen, clock } = await startedTab({ since: 2_000 });
  server.time = 1_500;
  server.publish(8);
  server.sockets[0].die(1006);
  await clock.pass(1_000);
  assert.equal(seen.badge, 8);
  server.publish(9);
  assert.equal(seen.badge, 9);
});

test("a reconnect asks since the last timestamp applied", async () => {
  const { server, clock, seen } = await startedTab();
  server.publish(1);
  const cursor = String(server.time);
  server.sockets[0].die(1006);
  server.publish(2);
  await clock.pass(1_000);
  assert.equal(server.asked.at(-1).since, cursor);
  assert.equal(seen.badge, 2);
});

// The remembered choice

test("a remembered choice is taken at once by the next page", async () => {
  const first = on({ websocket: "refused" });
  await first.clock.pass(3_000);
  const { server, clock } = on({}, { clock: first.clock, storage: first.storage });
  await clock.pass(100);
  assert.deepEqual(server.asked.map(({ kind }) => kind), ["longpoll", "longpoll"]);
  await clock.pass(10 * MINUTE);
  assert.equal(server.sockets.length, 1);
});

test("after ten minutes a better one is tried in the background and taken once it has delivered", async () => {
  const it = on({ websocket: "refused" });
  await it.clock.pass(3_000);
  it.server.websocket = "ok";
  await it.clock.pass(10 * MINUTE - 4_000);
  assert.equal(it.server.sockets.length, 0);
  await it.clock.pass(4_000);
  assert.equal(it.server.sockets.length, 1);
  assert.equal(stored(it), undefined);
  const held = it.server.count("longpoll");
  it.server.publish(1);
  await it.clock.pass(MINUTE);
  assert.deepEqual([it.seen.badge, it.server.count("longpoll")], [1, held]);
});

test("a better one that fails in the background disturbs nothing, and is left for ten minutes more", async () => {
  const it = on({ websocket: "refused" });
  await it.clock.pass(3_000);
  it.server.websocket = "silent";
  await it.clock.pass(10 * MINUTE - 2_000);
  const tries = it.server.count("websocket");
  assert.equal(tries, 3);
  it.server.publish(1);
  await it.clock.pass(50);
  assert.equal(it.seen.badge, 1);
  await it.clock.pass(9 * MINUTE);
  assert.deepEqual([it.server.count("websocket"), it.server.count("poll"), stored(it)], [tries, 1, "longpoll"]);
});

test("a better one refused in the background is tried twice: a held question proves the server", async () => {
  const it = on({ websocket: "refused" });
  await it.clock.pass(3_000);
  const tries = it.server.count("websocket");
  await it.clock.pass(10 * MINUTE);
  assert.deepEqual([it.server.count("websocket"), stored(it)], [tries + 2, "longpoll"]);
});

test("storage that throws changes nothing about the search", async () => {
  const storage = () => {
    throw new Error("SecurityError");
  };
  const clock = new Clock();
  const server = new Server(clock);
  const made = tab({ clock, server });
  made.world.storage = storage;
  server.websocket = { killAfter: 200 };
  made.client.start();
  await clock.pass(3_000);
  server.publish(1);
  await clock.pass(50);
  assert.equal(made.seen.badge, 1);
});

// Trying at once

test("the network's return is tried at once, whatever the backoff", async () => {
  const { server, clock, client, seen } = await startedTab();
  server.down();
  await clock.pass(10 * MINUTE);
  server.up();
  server.publish(3);
  client.wake(true);
  await clock.pass(50);
  assert.equal(seen.badge, 3);
  assert.equal(server.sockets.length, 1);
});

test("becoming visible is a reason to try at once when nothing is healthy", async () => {
  const { server, clock, client, seen } = await startedTab();
  server.down();
  await clock.pass(10 * MINUTE);
  server.up();
  server.publish(3);
  client.wake();
  await clock.pass(50);
  assert.deepEqual([seen.badge, server.sockets.length], [3, 1]);
});

test("becoming visible polls at once too, for the socket may take its time", async () => {
  const { server, clock, client, seen } = await startedTab();
  server.down();
  await clock.pass(10 * MINUTE);
  server.up();
  server.websocket = "silent";
  server.publish(3);
  client.wake();
  await clock.pass(50);
  assert.equal(seen.badge, 3);
});

for (const moved of [true, false]) {
  test(`what is asked in vain does not hold up a try at once (${moved ? "online" : "visible"})`, async () => {
    const { server, clock, client, seen } = await startedTab();
    server.down();
    server.websocket = server.longpoll = server.poll = "silent";
    await clock.pass(MINUTE);
    const waits = (kind) => clock.now() - server.asked.findLast((request) => request.kind === kind).at;
    while (!(waits("websocket") > 1_000 && waits("websocket") < 3_000 && waits("poll") > 1_000 && waits("poll") < 9_000)) await clock.pass(100);
    server.up();
    server.publish(3);
    client.wake(moved);
    await clock.pass(50);
    assert.deepEqual([seen.badge, server.sockets.length], [3, 1]);
  });
}

test("a try just begun is not begun anew", async () => {
  const { server, clock, client } = on({ latency: 900 });
  await clock.pass(500);
  client.wake(true);
  await clock.pass(500);
  assert.deepEqual([server.count("websocket"), server.sockets.length], [1, 1]);
});

test("becoming visible leaves a healthy socket alone", async () => {
  const { server, clock, client } = await startedTab();
  client.wake();
  await clock.pass(1_000);
  assert.deepEqual(server.asked.map(({ kind }) => kind), ["websocket"]);
});

test("another network makes a second socket, which replaces the first once it has delivered", async () => {
  const { server, clock, client } = await startedTab();
  const [old] = server.sockets;
  client.wake(true);
  await clock.pass(5);
  assert.deepEqual([old.open, server.count("websocket")], [true, 2]);
  await clock.pass(50);
  assert.equal(old.open, false);
  assert.equal(server.sockets.length, 1);
});

test("a tab that was frozen for an hour is right at once, though no timer ran", async () => {
  const { server, clock, client, seen } = await startedTab();
  const [dead] = server.sockets;
  server.sockets = []; // it died without a word
  clock.sleep(3_600_000);
  server.publish(7);
  client.wake();
  await clock.pass(50);
  assert.equal(seen.badge, 7);
  assert.equal(dead.open, false);
});

test("a page put away holds no connection and asks nothing; taken out again it goes on from its cursor", async () => {
  const { server, clock, client, seen } = await startedTab();
  server.publish(1);
  const cursor = String(server.time);
  client.pause();
  const asked = server.asked.length;
  server.publish(2);
  await clock.pass(MINUTE);
  assert.deepEqual([server.sockets.length, server.asked.length, seen.badge], [0, asked, 1]);
  client.start();
  await clock.pass(50);
  assert.deepEqual([server.asked.at(-1).since, seen.badge, server.sockets.length], [cursor, 2, 1]);
});

test("a page that slept through the four seconds does not hold it against the transport", async () => {
  const { server, clock, client } = on({ websocket: "silent" });
  await clock.pass(1_500); // and a poll has answered meanwhile
  clock.sleep(3_600_000);
  server.websocket = "ok";
  await clock.pass(5_000);
  assert.equal(server.sockets.length, 1);
  client.pause();
});

// What the server says

test("4401 asks the poll, whose 401 stops everything and shows signed out", async () => {
  const { server, seen, clock, client } = await startedTab();
  server.poll = { status: 401 };
  server.sockets[0].die(4401);
  await clock.pass(500);
  assert.deepEqual([seen.events.at(-1), server.count("poll"), server.count("websocket")], ["signedOut", 1, 1]);
  const asked = server.asked.length;
  client.wake(true);
  client.start();
  await clock.pass(30 * MINUTE);
  assert.equal(server.asked.length, asked);
});

test("a socket whose session ended is followed by one of the session that the browser has by now", async () => {
  const { server, seen, clock } = await startedTab();
  server.sockets[0].die(4401);
  server.publish(1);
  await clock.pass(500);
  assert.deepEqual([seen.badge, seen.events.includes("signedOut")], [1, false]);
  await clock.pass(5_000);
  assert.equal(server.sockets.length, 1);
  server.publish(2);
  assert.equal(seen.badge, 2);
});

test("4403 stops everything and shows the connection as lost", async () => {
  const { server, seen, clock } = await startedTab();
  server.sockets[0].die(4403);
  await clock.pass(30 * MINUTE);
  assert.equal(seen.events.at(-1), "gone");
  assert.equal(server.asked.length, 1);
});

for (const [status, event] of [[401, "signedOut"], [403, "gone"]]) {
  test(`a refused socket asks the poll, and its ${status} stops`, async () => {
    const { server, seen, clock } = on({ websocket: "refused", poll: { status } });
    await clock.pass(100);
    assert.equal(seen.events.at(-1), event);
    await clock.pass(30 * MINUTE);
    assert.deepEqual([server.count("websocket"), server.count("poll")], [1, 1]);
  });

  test(`the long poll's ${status} stops`, async () => {
    const storage = new Storage();
    const clock = new Clock();
    storage.setItem(KEY, JSON.stringify({ name: "longpoll", until: clock.now() + MINUTE }));
    const { server, seen } = on({ longpoll: { status }, poll: { status } }, { storage, clock });
    await clock.pass(30 * MINUTE);
    assert.deepEqual([seen.events.at(-1), server.count("longpoll"), server.count("poll")], [event, 1, status === 401 ? 1 : 0]);
  });
}

test("4429 falls back to polling, and the next page is not told", async () => {
  const it = await startedTab();
  it.server.sockets[0].die(4429);
  it.server.publish(1);
  await it.clock.pass(100);
  assert.equal(it.seen.badge, 1);
  await it.clock.pass(5 * MINUTE);
  assert.deepEqual([it.server.count("websocket"), it.server.count("longpoll"), stored(it)], [1, 0, undefined]);
  await it.clock.pass(5 * MINUTE);
  assert.equal(it.server.sockets.length, 1);
});

test("a long poll over the limit falls back to polling, after Retry-After", async () => {
  const storage = new Storage();
  const clock = new Clock();
  storage.setItem(KEY, JSON.stringify({ name: "longpoll", until: clock.now() + MINUTE }));
  const { server } = on({ longpoll: { status: 429, headers: { "Retry-After": "20" } } }, { storage, clock });
  await clock.pass(20_000);
  assert.equal(server.asked.length, 1);
  await clock.pass(8 * MINUTE);
  assert.deepEqual([server.count("longpoll"), server.count("websocket")], [1, 0]);
  assert.ok(server.count("poll") > 60);
});

for (const status of [429, 503]) {
  test(`a poll's ${status} is obeyed: nobody asks before Retry-After, not even when woken`, async () => {
    const { server, clock, client } = on({ websocket: "refused", poll: { status, headers: { "Retry-After": "60" } } });
    await clock.pass(1_000);
    const before = server.asked.length;
    await clock.pass(30_000);
    client.wake(true);
    await clock.pass(28_500);
    assert.equal(server.asked.length, before);
    server.up();
    await clock.pass(1_000);
    assert.ok(server.asked.length > before);
  });
}

test("a long poll's 503 with Retry-After is the server's word, and no failure of long polls", async () => {
  const it = on({ websocket: "refused", longpoll: { status: 503, headers: { "Retry-After": "20" } } });
  await it.clock.pass(5 * MINUTE);
  assert.ok(it.server.count("longpoll") > 2);
  assert.equal(stored(it), undefined);
});

for (const code of [4503, 1012]) {
  test(`${code}: reconnects after the milliseconds it was told, and not before`, async () => {
    const { server, clock } = await startedTab();
    server.sockets[0].die(code, "7000");
    await clock.pass(6_900);
    assert.equal(server.asked.length, 1);
    await clock.pass(200);
    assert.equal(server.sockets.length, 1);
  });
}

test("a drain in the first seconds of a connection is no failure", async () => {
  const { server, clock } = await startedTab();
  for (let i = 0; i < 4; i++) {
    server.sockets[0].die(4503, "100");
    await clock.pass(1_000 + i * 4_000);
  }
  assert.equal(server.sockets.length, 1);
  assert.equal(server.count("longpoll"), 0);
});

test("a poll is not asked again before Poll-After, though a socket came and went between", async () => {
  const { server, clock } = on({ websocket: "silent", pollAfter: "30" });
  await clock.pass(2_000);
  server.handshakes[0].accept({ killAfter: 500 });
  await clock.pass(28_000);
  assert.equal(server.count("poll"), 1);
  await clock.pass(2_000);
  assert.equal(server.count("poll"), 2);
});

test("a try put off by Retry-After is forgotten once a socket has delivered", async () => {
  const { server, clock, client } = on({ websocket: "silent", poll: { status: 503, headers: { "Retry-After": "20" } } });
  await clock.pass(1_500);
  client.wake(true);
  await clock.pass(500);
  server.handshakes[0].accept({});
  await clock.pass(MINUTE);
  assert.deepEqual([server.handshakes.length, server.sockets.length], [1, 1]);
});

// Backoff

test("the backoff is reset only by a connection useful for thirty seconds", async () => {
  const gaps = async (killAfter) => {
    const { server, clock } = on({ websocket: { killAfter } });
    await clock.pass(5 * MINUTE);
    const times = server.asked.filter(({ kind }) => kind === "websocket").map(({ at }) => at);
    return times.slice(1).map((at, i) => at - times[i] - killAfter - server.latency);
  };
  assert.deepEqual((await gaps(29_900)).slice(0, 4), [250, 500, 1000, 2000]);
  assert.deepEqual((await gaps(30_100)).slice(0, 4), [250, 250, 250, 250]);
});

test("a socket silent for 2.5 heartbeats is replaced", async () => {
  const { server, clock } = await startedTab();
  server.heartbeat = Infinity;
  await clock.pass(20_000); // the beat that was under way
  const [dead] = server.sockets;
  await clock.pass(51_000);
  assert.equal(dead.open, false);
  assert.equal(server.sockets.length, 1);
});

// What the page is told of it

test("the page hears that it is right with every answer, and is in doubt when the live line ends", async () => {
  const { server, seen, clock } = await startedTab();
  assert.deepEqual(seen.events, ["doubt", "right"]);
  server.sockets[0].die(1006);
  assert.equal(seen.events.at(-1), "doubt");
  await clock.pass(500);
  assert.equal(seen.events.at(-1), "right");
  await clock.pass(40_000);
  assert.deepEqual(seen.events.slice(-2), ["right", "right"]);
});

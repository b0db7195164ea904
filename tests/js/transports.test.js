// Each transport alone, with a line that only listens.

import assert from "node:assert/strict";
import { test } from "node:test";

import { longpoll } from "../../static/rt/longpoll.js";
import { poll } from "../../static/rt/poll.js";
import { websocket } from "../../static/rt/websocket.js";
import { tab } from "./world.js";

class Ear {
  answers = [];
  rests = [];
  endings = [];

  constructor(since) {
    this.since = since;
  }

  answer(notifications, rest) {
    this.answers.push(notifications);
    this.rests.push(rest);
    this.since = notifications.at(-1)?.timestamp ?? this.since;
  }

  ended(ending) {
    this.endings.push(ending);
  }
}

async function opened(transport, { set = () => {}, since = 1000.25, ...options } = {}) {
  const { world, clock, server } = tab(options);
  set(server);
  const line = new Ear(since);
  const opened = transport(world, line);
  await clock.pass(100);
  return { line, opened, clock, server, world };
}

for (const transport of [websocket, longpoll, poll]) {
  const { name } = transport;

  test(`${name}: a message is told with the cursor it came from`, async () => {
    const { line, clock, server } = await opened(transport);
    server.publish(3);
    await clock.pass(7_000);
    assert.deepEqual(line.answers.filter((array) => array.length), [[server.row]]);
  });

  test(`${name}: the cursor goes back exactly as it came`, async () => {
    const { server } = await opened(transport, { since: 1732284183.123456 });
    assert.equal(server.asked[0].since, "1732284183.123456");
  });

  test(`${name}: nothing is told, asked or ended after close`, async () => {
    const { line, opened: open, clock, server } = await opened(transport);
    const asked = server.asked.length;
    open.close();
    server.publish(1);
    server.down();
    await clock.pass(120_000);
    assert.deepEqual(line.answers, [[]]);
    assert.deepEqual(line.endings, []);
    assert.equal(server.asked.length, asked);
  });

  test(`${name}: closed before its first answer, it says nothing`, async () => {
    const { world, clock } = tab();
    const line = new Ear(0);
    transport(world, line).close();
    await clock.pass(60_000);
    assert.deepEqual([line.answers, line.endings], [[], []]);
  });

  test(`${name}: a refusal is told once, as no answer`, async () => {
    const { line, clock } = await opened(transport, { set: (server) => server.down() });
    await clock.pass(60_000);
    assert.deepEqual(line.answers, []);
    assert.deepEqual(line.endings.map(({ status }) => status), [0]);
  });
}

for (const transport of [longpoll, poll]) {
  const { name } = transport;
  const answering = (how) => ({ set: (server) => (server[name] = how) });

  test(`${name}: an error's status and Retry-After are told`, async () => {
    const { line } = await opened(transport, answering({ status: 503, headers: { "Retry-After": "7" } }));
    assert.equal(line.endings[0].status, 503);
    assert.equal(line.endings[0].wait, 7_000);
  });

  for (const value of ["soon", "-3", "", "Wed, 21 Oct 2015 07:28:00 GMT"]) {
    test(`${name}: a Retry-After of '${value}' is none`, async () => {
      const { line } = await opened(transport, answering({ status: 429, headers: { "Retry-After": value } }));
      assert.equal(line.endings[0].wait, undefined);
    });
  }

  for (const body of [{ notifications: [] }, null, "[]"]) {
    test(`${name}: a 200 of ${JSON.stringify(body)} is no answer`, async () => {
      const { line } = await opened(transport, answering({ status: 200, body }));
      assert.deepEqual([line.answers, line.endings[0].status], [[], 0]);
    });
  }

  test(`${name}: a request is made for JSON, uncached, and follows nobody elsewhere`, async () => {
    const requests = [];
    await opened(transport, { fetch: (href, options) => (requests.push(options), new Promise(() => {})) });
    const { headers, cache, redirect } = requests[0];
    assert.deepEqual([headers.Accept, cache, redirect], ["application/json", "no-store", "error"]);
  });

  test(`${name}: a request that hangs is given up and aborted`, async () => {
    const signals = [];
    const hang = (href, { signal }) => (signals.push(signal), new Promise(() => {}));
    const { line, clock } = await opened(transport, { fetch: hang });
    await clock.pass(15_000);
    assert.deepEqual(line.endings, [{ status: 0 }]);
    assert.equal(signals[0].aborted, true);
  });
}

test("poll: asks every Poll-After seconds, a little later but never sooner", async () => {
  const { server, clock } = await opened(poll, { set: (server) => (server.pollAfter = "8") });
  await clock.pass(60_000);
  const times = server.asked.map(({ at }) => at);
  const gaps = times.slice(1).map((at, i) => at - times[i]);
  assert.ok(gaps.length >= 5);
  for (const gap of gaps) assert.ok(gap >= 8_000 && gap <= 10_000, `asked after ${gap} ms`);
});

test("poll: two pages do not keep step", async () => {
  const asked = [];
  for (const random of [0, 0.9]) {
    const { server, clock } = await opened(poll, { random: () => random });
    await clock.pass(8_000);
    asked.push(server.asked[1].at);
  }
  assert.notEqual(asked[0], asked[1]);
});

for (const pollAfter of [undefined, "", "0", "-1", "often"]) {
  test(`poll: a Poll-After of ${pollAfter} is five seconds`, async () => {
    const { line } = await opened(poll, { set: (server) => (server.pollAfter = pollAfter ?? "") });
    assert.deepEqual(line.rests, [5_000]);
  });
}

test("longpoll: first asks with wait=0, then has the server hold the question", async () => {
  const { server } = await opened(longpoll);
  assert.deepEqual(server.asked.map(({ hold }) => hold), [0, 25]);
});

test("longpoll: a held question is given its time and a margin before it is given up", async () => {
  const { line, clock, server } = await opened(longpoll);
  server.longpoll = "silent";
  server.publish(1); // answers the held one; the next is never answered
  await clock.pass(29_900);
  assert.deepEqual(line.endings, []);
  await clock.pass(1_000);
  assert.deepEqual(line.endings, [{ status: 0 }]);
});

test("longpoll: a server that does not hold is not asked on and on", async () => {
  const { server, clock } = await opened(longpoll, { set: (server) => (server.longpoll = { status: 200, body: [] }) });
  await clock.pass(60_000);
  assert.ok(server.count("longpoll") < 15, `${server.count("longpoll")} requests in a minute`);
});

test("longpoll: news is followed by the next question at once", async () => {
  const { server, clock, line } = await opened(longpoll);
  for (const count of [1, 2, 3]) {
    server.publish(count);
    await clock.pass(50);
  }
  assert.deepEqual(line.answers.flat().map(({ data }) => data), [1, 2, 3]);
});

test("websocket: an address of https becomes wss", async () => {
  const { server } = await opened(websocket);
  assert.equal(server.sockets[0].url.protocol, "wss:");
});

test("websocket: a heartbeat is acknowledged with the last timestamp applied, the first frame is not", async () => {
  const { server, clock } = await opened(websocket);
  assert.deepEqual(server.sockets[0].sent, []);
  await clock.pass(20_000);
  assert.deepEqual(server.sockets[0].sent, ["1000.25"]);
  server.publish(1);
  await clock.pass(20_000);
  assert.deepEqual(server.sockets[0].sent, ["1000.25", String(server.time)]);
});

test("websocket: news is acknowledged at once, but only once a heartbeat", async () => {
  const { server, clock } = await opened(websocket);
  const { sent } = server.sockets[0];
  for (const [pause, acknowledgements] of [[0, 1], [2_000, 1], [17_000, 1], [1_000, 2], [2_000, 3], [2_000, 3]]) {
    await clock.pass(pause);
    server.publish(1);
    await clock.pass(0);
    assert.equal(sent.length, acknowledgements, `${pause}`);
  }
});

test("websocket: there is at most one acknowledgement a second", async () => {
  const { server, clock } = await opened(websocket);
  const [socket] = server.sockets;
  for (let i = 0; i < 5; i++) socket.deliver("[]");
  assert.equal(socket.sent.length, 1);
  await clock.pass(1_000);
  socket.deliver("[]");
  assert.equal(socket.sent.length, 2);
});

test("websocket: frames that are not arrays are ignored", async () => {
  const { server, line } = await opened(websocket);
  for (const frame of ['{"a":1}', "7", "null", '"[]"', "not JSON", ""]) server.sockets[0].deliver(frame);
  assert.deepEqual(line.answers, [[]]);
  assert.deepEqual(line.endings, []);
});

test("websocket: silence for 2.5 heartbeats is death, and less is not", async () => {
  const { server, line, clock } = await opened(websocket, { set: (server) => (server.heartbeat = Infinity) });
  await clock.pass(49_800);
  assert.deepEqual(line.endings, []);
  await clock.pass(200);
  assert.deepEqual(line.endings, [{ status: 0 }]);
  assert.equal(server.sockets.length, 0);
});

test("websocket: heartbeats keep it alive", async () => {
  const { line, clock } = await opened(websocket);
  await clock.pass(3_600_000);
  assert.deepEqual(line.endings, []);
});

for (const [code, reason, ending] of [
  [4401, "", { status: 401 }],
  [4403, "", { status: 403 }],
  [4408, "", { status: 408 }],
  [4429, "", { status: 429 }],
  [4503, "1500", { status: 503, wait: 1500 }],
  [1012, "250", { status: 503, wait: 250 }],
  [1012, "service restart", { status: 503, wait: undefined }],
  [1001, "", { status: 0 }],
  [1006, "", { status: 0 }],
  [1011, "9000", { status: 0 }],
]) {
  test(`websocket: close code ${code} '${reason}' is told as ${JSON.stringify(ending)}`, async () => {
    const { server, line } = await opened(websocket);
    server.sockets[0].die(code, reason);
    assert.deepEqual(line.endings, [ending]);
  });
}

test("websocket: a browser that forbids it, or has none, is told like any failure", async () => {
  const Forbidden = class {
    constructor() {
      throw new Error("SecurityError");
    }
  };
  for (const WebSocket of [Forbidden, undefined]) {
    const { line } = await opened(websocket, { WebSocket });
    assert.deepEqual(line.endings, [{ status: 0 }]);
  }
});

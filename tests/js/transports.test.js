// Each transport alone, with a connection that records what it receives.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { longpoll } from "../../static/rt/longpoll.js";
import { poll } from "../../static/rt/poll.js";
import { EventStreamParser, sse } from "../../static/rt/sse.js";
import { websocket } from "../../static/rt/websocket.js";
import { makeTab } from "./fake_browser.js";

/** What clients of the protocol must do, whatever their language. */
const CASES = JSON.parse(readFileSync(new URL("../client_cases.json", import.meta.url), "utf8"));

class RecordingConnection {
  received = [];
  pollAfters = [];
  ends = [];

  constructor(since) {
    this.since = since;
  }

  receive(notifications, pollAfter) {
    this.received.push(notifications);
    this.pollAfters.push(pollAfter);
    this.since = notifications.at(-1)?.timestamp ?? this.since;
  }

  end(reason) {
    this.ends.push(reason);
  }
}

async function open(transport, { set = () => {}, since = 1000.25, ...options } = {}) {
  const { env, clock, server } = makeTab(options);
  set(server);
  const connection = new RecordingConnection(since);
  const handle = transport(env, connection);
  await clock.advance(100);
  return { connection, handle, clock, server, env };
}

for (const transport of [websocket, sse, longpoll, poll]) {
  const { name } = transport;

  test(`${name}: a message is received with its timestamp`, async () => {
    const { connection, clock, server } = await open(transport);
    server.publish(3);
    await clock.advance(7_000);
    assert.deepEqual(connection.received.filter((array) => array.length), [[server.row]]);
  });

  test(`${name}: the cursor is sent back unchanged`, async () => {
    const { server } = await open(transport, { since: 1732284183.123456 });
    assert.equal(server.requests[0].since, "1732284183.123456");
  });

  test(`${name}: after close() nothing is received, sent or ended`, async () => {
    const { connection, handle, clock, server } = await open(transport);
    const requests = server.requests.length;
    handle.close();
    server.publish(1);
    server.down();
    await clock.advance(120_000);
    assert.deepEqual(connection.received, [[]]);
    assert.deepEqual(connection.ends, []);
    assert.equal(server.requests.length, requests);
  });

  test(`${name}: closed before its first response, it reports nothing`, async () => {
    const { env, clock } = makeTab();
    const connection = new RecordingConnection(0);
    transport(env, connection).close();
    await clock.advance(60_000);
    assert.deepEqual([connection.received, connection.ends], [[], []]);
  });

  test(`${name}: a refused connection ends once, with status 0`, async () => {
    const { connection, clock } = await open(transport, { set: (server) => server.down() });
    await clock.advance(60_000);
    assert.deepEqual(connection.received, []);
    assert.deepEqual(connection.ends.map(({ status }) => status), [0]);
  });
}

for (const transport of [sse, longpoll, poll]) {
  const { name } = transport;
  const responding = (behaviour) => ({ set: (server) => (server[name] = behaviour) });

  test(`${name}: the status and Retry-After of an error are reported`, async () => {
    const { connection } = await open(transport, responding({ status: 503, headers: { "Retry-After": "7" } }));
    assert.equal(connection.ends[0].status, 503);
    assert.equal(connection.ends[0].wait, 7_000);
  });

  for (const value of ["soon", "-3", "", "Wed, 21 Oct 2015 07:28:00 GMT"]) {
    test(`${name}: Retry-After '${value}' is ignored`, async () => {
      const { connection } = await open(transport, responding({ status: 429, headers: { "Retry-After": value } }));
      assert.equal(connection.ends[0].wait, undefined);
    });
  }

  test(`${name}: Retry-After is five minutes at most`, async () => {
    const { connection } = await open(transport, responding({ status: 503, headers: { "Retry-After": "1e9" } }));
    assert.equal(connection.ends[0].wait, 300_000);
  });

  for (const { status, code, content_type: type, reported } of CASES.refusals) {
    test(`${name}: ${status} with ${code} in ${type} is reported as ${reported}`, async () => {
      const headers = { "Content-Type": type };
      const { connection } = await open(transport, responding({ status, headers, body: code ? { code } : {} }));
      assert.equal(connection.ends[0].status, reported);
    });
  }

  for (const body of name === "sse" ? [] : [{ notifications: [] }, null, "[]"]) {
    test(`${name}: 200 with ${JSON.stringify(body)} is no valid response`, async () => {
      const { connection } = await open(transport, responding({ status: 200, body }));
      assert.deepEqual([connection.received, connection.ends[0].status], [[], 0]);
    });
  }

  test(`${name}: requests name their format, are not cached and follow no redirect`, async () => {
    const requests = [];
    await open(transport, { fetch: (href, options) => (requests.push(options), new Promise(() => {})) });
    const { headers, cache, redirect, credentials } = requests[0];
    const accept = name === "sse" ? "text/event-stream" : "application/json";
    assert.deepEqual([headers, cache, redirect, credentials], [{ Accept: accept }, "no-store", "error", "same-origin"]);
  });

  test(`${name}: a token is sent in a header, without cookies, and not in the URL`, async () => {
    const requests = [];
    const fetch = (href, options) => (requests.push([href, options]), new Promise(() => {}));
    await open(transport, { fetch, token: async () => "t0ken" });
    const [[href, { headers, credentials }]] = requests;
    assert.deepEqual([headers.Authorization, credentials, href.includes("t0ken")], ["Bearer t0ken", "omit", false]);
  });

  test(`${name}: a token that cannot be obtained is a failure to retry`, async () => {
    const token = () => Promise.reject(new Error("the site's own server is down"));
    const { connection, server } = await open(transport, { token });
    assert.deepEqual([connection.ends, server.requests.length], [[{ status: 0 }], 0]);
  });

  test(`${name}: a request without a response is aborted`, async () => {
    const signals = [];
    const hang = (href, { signal }) => (signals.push(signal), new Promise(() => {}));
    const { connection, clock } = await open(transport, { fetch: hang });
    await clock.advance(60_000);
    assert.deepEqual(connection.ends, [{ status: 0 }]);
    assert.equal(signals[0].aborted, true);
  });
}

test("poll: the interval is Poll-After, up to 20 % longer, never shorter", async () => {
  const { server, clock } = await open(poll, { set: (server) => (server.pollAfter = "8") });
  await clock.advance(60_000);
  const times = server.requests.map(({ at }) => at);
  const gaps = times.slice(1).map((at, i) => at - times[i]);
  assert.ok(gaps.length >= 5);
  for (const gap of gaps) assert.ok(gap >= 8_000 && gap <= 10_000, `requested after ${gap} ms`);
});

test("poll: a Poll-After is five minutes at most", async () => {
  const { connection } = await open(poll, { set: (server) => (server.pollAfter = "1e9") });
  assert.deepEqual(connection.pollAfters, [300_000]);
});

test("poll: the interval has jitter", async () => {
  const times = [];
  for (const random of [0, 0.9]) {
    const { server, clock } = await open(poll, { random: () => random });
    await clock.advance(8_000);
    times.push(server.requests[1].at);
  }
  assert.notEqual(times[0], times[1]);
});

for (const pollAfter of [undefined, "", "0", "-1", "often"]) {
  test(`poll: a Poll-After of ${pollAfter} means five seconds`, async () => {
    const { connection } = await open(poll, { set: (server) => (server.pollAfter = pollAfter ?? "") });
    assert.deepEqual(connection.pollAfters, [5_000]);
  });
}

test("longpoll: the first request has wait=0, the next ones are held", async () => {
  const { server } = await open(longpoll);
  assert.deepEqual(server.requests.map(({ hold }) => hold), [0, 25]);
});

test("longpoll: a held request times out after its hold and a margin", async () => {
  const { connection, clock, server } = await open(longpoll);
  server.longpoll = "silent";
  server.publish(1); // responds to the held request; the next one gets no response
  await clock.advance(29_900);
  assert.deepEqual(connection.ends, []);
  await clock.advance(1_000);
  assert.deepEqual(connection.ends, [{ status: 0 }]);
});

test("longpoll: no tight loop if the server does not hold requests", async () => {
  const { server, clock } = await open(longpoll, { set: (server) => (server.longpoll = { status: 200, body: [] }) });
  await clock.advance(60_000);
  assert.ok(server.count("longpoll") < 15, `${server.count("longpoll")} requests in a minute`);
});

test("longpoll: the next request follows a notification at once", async () => {
  const { server, clock, connection } = await open(longpoll);
  for (const count of [1, 2, 3]) {
    server.publish(count);
    await clock.advance(50);
  }
  assert.deepEqual(connection.received.flat().map(({ data }) => data), [1, 2, 3]);
});

test("websocket: https becomes wss", async () => {
  const { server } = await open(websocket);
  assert.equal(server.sockets[0].url.protocol, "wss:");
});

test("websocket: heartbeats are acknowledged with the cursor, the first frame is not", async () => {
  const { server, clock } = await open(websocket);
  assert.deepEqual(server.sockets[0].sent, []);
  await clock.advance(20_000);
  assert.deepEqual(server.sockets[0].sent, ["1000.25"]);
  server.publish(1);
  await clock.advance(20_000);
  assert.deepEqual(server.sockets[0].sent, ["1000.25", String(server.time)]);
});

test("websocket: notifications are acknowledged at once, once a heartbeat", async () => {
  const { server, clock } = await open(websocket);
  const { sent } = server.sockets[0];
  for (const [pause, acknowledgements] of [[0, 1], [2_000, 1], [17_000, 1], [1_000, 2], [2_000, 3], [2_000, 3]]) {
    await clock.advance(pause);
    server.publish(1);
    await clock.advance(0);
    assert.equal(sent.length, acknowledgements, `${pause}`);
  }
});

test("websocket: at most one acknowledgement a second", async () => {
  const { server, clock } = await open(websocket);
  const [socket] = server.sockets;
  for (let i = 0; i < 5; i++) socket.deliver("[]");
  assert.equal(socket.sent.length, 1);
  await clock.advance(1_000);
  socket.deliver("[]");
  assert.equal(socket.sent.length, 2);
});

for (const { frame, notifications } of CASES.websocket_frames) {
  test(`websocket: the frame ${JSON.stringify(frame)} is ${notifications ? "received" : "ignored"}`, async () => {
    const { server, connection } = await open(websocket);
    server.sockets[0].deliver(frame);
    assert.deepEqual(connection.received, notifications ? [[], notifications] : [[]]);
    assert.deepEqual(connection.ends, []);
  });
}

test("websocket: the connection ends after 2.5 silent heartbeats, not before", async () => {
  const { server, connection, clock } = await open(websocket, { set: (server) => (server.heartbeat = Infinity) });
  await clock.advance(49_800);
  assert.deepEqual(connection.ends, []);
  await clock.advance(200);
  assert.deepEqual(connection.ends, [{ status: 0 }]);
  assert.equal(server.sockets.length, 0);
});

test("websocket: heartbeats keep the connection open", async () => {
  const { connection, clock } = await open(websocket);
  await clock.advance(3_600_000);
  assert.deepEqual(connection.ends, []);
});

for (const { code, reason, end } of CASES.close_codes) {
  test(`websocket: close code ${code} '${reason}' is reported as ${JSON.stringify(end)}`, async () => {
    const { server, connection } = await open(websocket);
    server.sockets[0].closeWith(code, reason);
    assert.deepEqual(JSON.parse(JSON.stringify(connection.ends)), [end]);
  });
}

test("websocket: a missing or forbidden WebSocket is reported as a failure", async () => {
  const Forbidden = class {
    constructor() {
      throw new Error("SecurityError");
    }
  };
  for (const WebSocket of [Forbidden, undefined]) {
    const { connection } = await open(websocket, { WebSocket });
    assert.deepEqual(connection.ends, [{ status: 0 }]);
  }
});

test("sse: events that arrive together are received as one array", async () => {
  const { server, connection, clock } = await open(sse);
  const rows = [1001.5, 1002.5].map((timestamp) => ({ name: "n", data: 1, timestamp }));
  server.streams[0].write(rows.map((row) => `data: ${JSON.stringify(row)}\n\n`).join(""));
  await clock.advance(10);
  assert.deepEqual(connection.received, [[], rows]);
});

test("sse: a response of another type is no stream", async () => {
  const { connection } = await open(sse, { set: (server) => (server.sse = { status: 200, body: [] }) });
  assert.deepEqual([connection.received, connection.ends], [[], [{ status: 0 }]]);
});

test("sse: the stream ends after 2.5 silent heartbeats, not before", async () => {
  for (const [header, ms] of [[undefined, 50_000], ["4", 10_000]]) {
    const set = (server) => Object.assign(server, { heartbeat: Infinity, heartbeatHeader: header });
    const { server, connection, clock } = await open(sse, { set });
    await clock.advance(ms - 200);
    assert.deepEqual(connection.ends, []);
    await clock.advance(200);
    assert.deepEqual([connection.ends, server.streams], [[{ status: 0 }], []]);
  }
});

test("sse: heartbeats keep the stream open", async () => {
  const { connection, clock } = await open(sse);
  await clock.advance(3_600_000);
  assert.deepEqual(connection.ends, []);
});

test("sse: a stream ends as a restart only after a retry that is not its first", async () => {
  const event = 'data: {"name": "n", "data": 1, "timestamp": 1001.5}\n\n';
  for (const [written, expected] of [
    ["", { status: 0 }],
    ["retry: 300\n", { status: 503, restarts: true }],
    ["retry: 300\n\n", { status: 503, restarts: true }],
    [`retry: 300\n${event}`, { status: 0 }],
  ]) {
    const { server, connection, clock } = await open(sse);
    server.streams[0].write(written);
    server.streams[0].end();
    await clock.advance(10);
    assert.deepEqual(connection.ends, [expected], JSON.stringify(written));
  }
});

for (const { case: name, stream, notifications, restarts } of CASES.event_streams) {
  test(`sse: ${name}`, () => {
    const bytes = new TextEncoder().encode(stream);
    for (const size of [bytes.length, 7, 1]) {
      const parser = new EventStreamParser();
      const decoder = new TextDecoder();
      const received = [];
      for (let at = 0; at < bytes.length; at += size) {
        received.push(...parser.push(decoder.decode(bytes.subarray(at, at + size), { stream: true })));
      }
      assert.deepEqual([received, parser.restarts], [notifications, restarts], `in parts of ${size} bytes`);
    }
  });
}

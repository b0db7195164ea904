// The table of transitions of client.js, row by row. docs/protocol.md has the same table.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { makeTab, startTab } from "./fake_browser.js";

const MINUTE = 60_000;
const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const table = (text) => text.split("\n").filter((line) => /^(\/\/ )?\| [a-z, ]+ \| .* \| .* \| .* \|$/.test(line));
const cases = JSON.parse(read("tests/client_cases.json"));
const rows = table(read("static/rt/client.js")).map((line) => line.replace("// ", ""));
const tested = new Set();

/** Tests the row that begins with `state` and `event`. */
function row(state, event, run) {
  const [found] = rows.filter((line) => line.startsWith(`| ${state} | ${event} |`));
  tested.add(found);
  test(`${state} | ${event}`, async () => {
    assert.ok(found, "the row is in the table");
    const next = found.split(" | ")[2];
    await run(next);
  });
}

const kinds = ({ server }) => server.requests.map(({ kind }) => kind).join(" ");

/** Pages in each state. The clock of a page in `fallback` is past its poll, in `asking` before it. */
const reach = {
  idle: async () => makeTab(),
  async searching(options) {
    const tab = makeTab(options);
    tab.server.down();
    tab.client.start();
    await tab.clock.advance(50);
    return tab;
  },
  async fallback(options) {
    const tab = makeTab(options);
    tab.server.websocket = "silent";
    tab.client.start();
    await tab.clock.advance(1_500);
    return tab;
  },
  connected: startTab,
  async probing(options) {
    const tab = await startTab(options);
    tab.server.websocket = "silent";
    await tab.clock.advance(3_000);
    tab.client.wake();
    await tab.clock.advance(5);
    return tab;
  },
  async asking(options) {
    const tab = await startTab(options);
    tab.server.sockets[0].closeWith(4401);
    return tab;
  },
  async stopped(options) {
    const tab = await reach.asking(options);
    tab.server.poll = "signed_out";
    await tab.clock.advance(MINUTE);
    return tab;
  },
};

for (const [state, open] of Object.entries(reach)) {
  test(`the page opened for the tests of "${state}" is in that state`, async () => {
    assert.equal((await open()).client.state, state);
  });
}

row("idle", "start", async (next) => {
  const tab = await reach.idle();
  tab.server.websocket = "silent";
  tab.client.start();
  assert.equal(tab.client.state, next);
  await tab.clock.advance(990);
  assert.equal(kinds(tab), "websocket");
  await tab.clock.advance(20);
  assert.equal(kinds(tab), "websocket poll");
});

row("searching", "failure", async (next) => {
  const tab = await reach.searching();
  assert.deepEqual([tab.client.state, kinds(tab)], [next, "websocket poll"]);
  await tab.clock.advance(215);
  assert.deepEqual([tab.client.state, kinds(tab)], [next, "websocket poll websocket"]);
});

row("searching", "response of the best transport", async (next) => {
  const tab = await reach.searching();
  tab.server.up();
  await tab.clock.advance(5_000);
  assert.equal(tab.client.state, next);
  const polls = tab.server.count("poll");
  await tab.clock.advance(MINUTE);
  assert.equal(tab.server.count("poll"), polls);
});

row("searching", "response of another transport", async (next) => {
  const tab = await reach.searching();
  tab.server.poll = "ok";
  while (!tab.server.responses) await tab.clock.advance(10);
  assert.equal(tab.client.state, next);
  const tries = tab.server.count("websocket");
  await tab.clock.advance(5_000);
  assert.ok(tab.server.count("websocket") > tries);
});

row("fallback", "response of a better transport", async (next) => {
  const tab = await reach.fallback();
  tab.server.handshakes[0].accept({});
  assert.equal(tab.client.state, next);
  await tab.clock.advance(MINUTE);
  assert.equal(tab.server.count("poll"), 1);
});

row("fallback", "failure of the better transport", async (next) => {
  const tab = await reach.fallback();
  tab.server.handshakes[0].closeWith(1006);
  assert.equal(tab.client.state, next);
  await tab.clock.advance(300);
  assert.deepEqual([tab.client.state, kinds(tab)], [next, "websocket poll websocket"]);
});

row("fallback", "failure of the active connection", async (next) => {
  const tab = await reach.fallback();
  tab.server.websocket = tab.server.longpoll = tab.server.poll = "refused";
  tab.server.pollAfter = "1";
  while (tab.server.count("poll") < 2) await tab.clock.advance(100);
  await tab.clock.advance(50);
  assert.deepEqual([tab.client.state, tab.page.events.at(-1)], [next, "reconnecting"]);
  await tab.clock.advance(10_000);
  assert.ok(tab.server.count("poll") > 2);
});

row("connected", "failure", async (next) => {
  const tab = await reach.connected({ random: () => 0.999 });
  await tab.clock.advance(10_000);
  tab.server.down();
  assert.deepEqual([tab.client.state, tab.page.events.at(-1)], [next, "reconnecting"]);
  await tab.clock.advance(480);
  assert.equal(kinds(tab), "websocket");
  await tab.clock.advance(530);
  assert.equal(kinds(tab), "websocket websocket poll");
});

row("connected", "ten minutes after a transport failed", async (next) => {
  const tab = makeTab();
  tab.server.websocket = "refused";
  tab.client.start();
  await tab.clock.advance(3_000);
  assert.equal(tab.client.state, "connected");
  tab.server.websocket = "silent";
  await tab.clock.advance(10 * MINUTE - 2_500);
  assert.deepEqual([tab.client.state, tab.server.requests.at(-1).kind], [next, "websocket"]);
});

row("connected", "wake after 2 s of silence, or network change", async (next) => {
  for (const [silence, options, count] of [[1_900, {}, 1], [1_900, { networkChanged: true }, 2], [2_000, {}, 2]]) {
    const tab = await reach.connected();
    await tab.clock.advance(silence);
    tab.client.wake(options);
    await tab.clock.advance(5);
    assert.deepEqual([tab.client.state, tab.server.count("websocket")], [count === 2 ? next : "connected", count]);
    assert.equal(tab.server.handshakes[0].open, true);
  }
});

row("probing", "response of the second connection", async (next) => {
  const tab = await reach.probing();
  const [first, second] = tab.server.handshakes;
  tab.server.publish(1);
  assert.deepEqual([tab.page.badge, tab.client.state, first.open], [1, "probing", true]);
  second.accept({});
  assert.deepEqual([tab.client.state, first.open], [next, false]);
});

row("probing", "failure of the second connection", async (next) => {
  const tab = await reach.probing();
  const [first, second] = tab.server.handshakes;
  second.closeWith(1006);
  assert.deepEqual([tab.client.state, first.open], [next, false]);
  const alive = await reach.probing();
  alive.server.publish(1);
  alive.server.handshakes[1].closeWith(1006);
  assert.deepEqual([alive.client.state, alive.server.handshakes[0].open], ["connected", true]);
});

row("searching, fallback", "wake", async () => {
  const searching = await reach.searching();
  await searching.clock.advance(10 * MINUTE);
  const before = kinds(searching).length;
  searching.client.wake();
  await searching.clock.advance(0);
  assert.equal(kinds(searching).slice(before), " websocket poll");
  assert.equal(searching.client.state, "searching");
  const fallback = await reach.fallback();
  fallback.client.wake();
  await fallback.clock.advance(0);
  assert.deepEqual([fallback.client.state, kinds(fallback)], ["fallback", "websocket poll websocket"]);
});

row("searching, fallback, connected, probing", "refusal", async (next) => {
  for (const state of ["connected", "probing"]) {
    const tab = await reach[state]();
    tab.server.handshakes[0].closeWith(4403);
    assert.deepEqual([tab.client.state, tab.server.sockets.length], [next, 0]);
    await tab.clock.advance(299);
    assert.equal(tab.server.count("poll"), 0);
    await tab.clock.advance(1);
    assert.equal(tab.server.count("poll"), 1);
  }
  for (const state of ["searching", "fallback"]) {
    const tab = await reach[state]();
    tab.server.poll = tab.server.longpoll = "signed_out";
    while (tab.client.state === state) await tab.clock.advance(10);
    assert.equal(tab.client.state, next);
  }
});

row("asking", "response", async (next) => {
  const tab = await reach.asking();
  await tab.clock.advance(320);
  assert.deepEqual([tab.client.state, tab.page.events.at(-1)], [next, "online"]);
  await tab.clock.advance(1_000);
  assert.equal(tab.client.state, "connected");
});

row("asking", "failure", async (next) => {
  const tab = await reach.asking();
  tab.server.down();
  await tab.clock.advance(7_000);
  assert.deepEqual([tab.client.state, kinds(tab)], [next, "websocket poll poll"]);
});

row("asking", "refusal", async (next) => {
  for (const [refusal, event] of [["signed_out", "signedOut"], ["forbidden", "offline"]]) {
    const tab = await reach.asking();
    tab.server.poll = refusal;
    await tab.clock.advance(MINUTE);
    assert.deepEqual([tab.client.state, tab.page.events.at(-1), kinds(tab)], [next, event, "websocket poll"]);
  }
});

row("stopped", "start, wake", async (next) => {
  for (const event of ["start", "wake"]) {
    const tab = await reach.stopped();
    tab.client[event]();
    assert.equal(tab.client.state, next);
    await tab.clock.advance(0);
    assert.equal(kinds(tab), "websocket poll poll");
  }
});

row("any but stopped", "pause", async (next) => {
  for (const [state, open] of Object.entries(reach)) {
    const tab = await open();
    tab.client.pause();
    assert.deepEqual([tab.client.state, tab.server.sockets.length], [state === "stopped" ? state : next, 0]);
    const requests = tab.server.requests.length;
    await tab.clock.advance(10 * MINUTE);
    assert.equal(tab.server.requests.length, requests);
  }
});

test("every row has a test, and docs/protocol.md has the same table", () => {
  assert.deepEqual(rows.filter((line) => !tested.has(line)), [rows[0]]); // its head
  assert.equal(rows.length, 20);
  const documented = read("docs/protocol.md").split("\n");
  const begin = documented.indexOf(rows[0]);
  assert.deepEqual(table(documented.slice(begin, begin + rows.length + 1).join("\n")), rows);
  const transitions = cases.transitions.map(({ state, event, next }) => `| ${state} | ${event} | ${next} |`);
  assert.deepEqual(rows.slice(1).map((line) => line.slice(0, line.lastIndexOf(" | ") + 2)), transitions);
});

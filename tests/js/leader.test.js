// One connection for all pages of one account in a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Leader } from "../../static/rt/leader.js";
import { FakeBrowser, FakeClock, FakeServer, FakeStorage, makeTab } from "./fake_browser.js";

const MINUTE = 60_000;

/** A browser and its server; `open()` starts a page whose cursor is the server's time. */
function makeBrowser() {
  const clock = new FakeClock();
  const server = new FakeServer(clock);
  const browser = new FakeBrowser(clock);
  const storage = new FakeStorage();
  const open = async ({ visible = true, since = server.time, ...options } = {}) => {
    const { locks, openChannel } = browser;
    const tab = makeTab({ clock, server, storage, since, ClientClass: Leader, locks, openChannel, ...options });
    tab.page.visible = visible;
    tab.client.start();
    await clock.advance(100);
    return tab;
  };
  const show = async ({ page, client }, visible) => {
    page.visible = visible;
    client.visibilityChanged();
    await clock.advance(100);
  };
  const badges = (tabs) => tabs.map(({ page }) => page.badge);
  return { clock, server, browser, open, show, badges };
}

/** Pages of which only the last is visible. */
async function openPages(number) {
  const all = makeBrowser();
  const tabs = [];
  for (let i = 0; i < number; i++) {
    tabs.push(await all.open());
    if (i < number - 1) await all.show(tabs[i], false);
  }
  return { ...all, tabs };
}

test("twelve pages have one connection and show every count", async () => {
  const { server, clock, tabs, badges } = await openPages(12);
  assert.equal(server.sockets.length, 1);
  server.publish(3);
  await clock.advance(5);
  assert.deepEqual(badges(tabs), Array(12).fill(3));
  await clock.advance(10 * MINUTE);
  assert.deepEqual([server.sockets.length, server.count("poll")], [1, 0]);
});

test("the next page leads at once when the leader is closed, and nothing is lost", async () => {
  const { server, clock, tabs, badges } = await openPages(3);
  tabs[2].client.pause();
  server.publish(5);
  await clock.advance(100);
  assert.deepEqual([badges(tabs.slice(0, 2)), server.sockets.length], [[5, 5], 1]);
});

test("a new leader continues from the cursor of the last message", async () => {
  const { server, clock, tabs } = await openPages(2);
  server.publish(1);
  await clock.advance(5);
  tabs[1].client.pause();
  await clock.advance(50);
  assert.equal(server.requests.at(-1).since, String(server.time));
});

test("a page that becomes visible takes over from a hidden leader", async () => {
  const { server, clock, tabs, show, badges } = await openPages(2);
  await show(tabs[1], false);
  const handshakes = server.count("websocket");
  await show(tabs[0], true);
  assert.deepEqual([server.count("websocket"), server.sockets.length], [handshakes + 1, 1]);
  server.publish(2);
  await clock.advance(5);
  assert.deepEqual(badges(tabs), [2, 2]);
  tabs[0].client.pause(); // the former leader waits for the lock again
  server.publish(4);
  await clock.advance(50);
  assert.deepEqual([tabs[1].page.badge, server.sockets.length], [4, 1]);
});

test("a page that becomes visible beside a visible leader leaves it the lock", async () => {
  const { server, tabs, show } = await openPages(2);
  const handshakes = server.count("websocket");
  await show(tabs[0], true);
  assert.equal(server.count("websocket"), handshakes);
});

test("a visible page takes over when its visible leader is hidden", async () => {
  const { server, tabs, show } = await openPages(2);
  await show(tabs[0], true);
  const handshakes = server.count("websocket");
  await show(tabs[1], false);
  assert.deepEqual([server.count("websocket"), server.sockets.length], [handshakes + 1, 1]);
});

test("one hidden page goes on leading when all are hidden", async () => {
  const { server, clock, tabs, show, badges } = await openPages(2);
  await show(tabs[1], false);
  server.publish(9);
  await clock.advance(5);
  assert.deepEqual([badges(tabs), server.sockets.length], [[9, 9], 1]);
});

for (const [when, wait] of [["a page becomes visible", 1_500], ["it is silent", 2.5 * 20_000 + 1_500]]) {
  test(`a leader that hangs is replaced when ${when}`, async () => {
    const channels = [];
    const { server, clock, browser, open, show } = makeBrowser();
    const openChannel = (name) => channels[channels.push(browser.openChannel(name)) - 1];
    const hanging = await open({ openChannel });
    const other = await open();
    channels[0].onmessage = channels[0].postMessage = () => {};
    await show(other, false);
    if (wait === 1_500) await show(other, true);
    await clock.advance(wait);
    server.publish(3);
    await clock.advance(5);
    assert.deepEqual([other.page.badge, hanging.page.badge], [3, null]);
  });
}

test("a page that joins gets what was received before, without a request", async () => {
  const { server, open, clock } = makeBrowser();
  const first = await open();
  const { time } = server;
  server.publish(6);
  await clock.advance(5);
  const requests = server.requests.length;
  const second = await open({ since: time }); // rendered before the message
  assert.deepEqual([second.page.badge, first.page.badge], [6, 6]);
  assert.equal(server.requests.length, requests);
  assert.equal(second.page.events.at(-1), "online");
});

test("a page older than what the leader can know sends one poll", async () => {
  const { server, open, clock } = makeBrowser();
  const { time } = server;
  server.publish(6);
  await open();
  const old = await open({ since: time });
  assert.deepEqual([old.page.badge, server.count("poll")], [6, 1]);
  server.publish(7);
  await clock.advance(MINUTE);
  assert.deepEqual([old.page.badge, server.count("poll"), server.sockets.length], [7, 1, 1]);
});

test("a page older than the leader whose poll fails sends another", async () => {
  const { server, open, clock } = makeBrowser();
  const { time } = server;
  server.publish(6);
  await open();
  server.poll = "refused";
  const old = await open({ since: time });
  server.poll = "ok";
  await clock.advance(6_000);
  assert.deepEqual([old.page.badge, server.count("poll")], [6, 2]);
});

test("a count that arrives during a follower's poll is not lost", async () => {
  const { server, open, clock } = makeBrowser();
  const { time } = server;
  server.publish(6);
  await open();
  server.latency = 200;
  const slow = async (...request) => {
    const response = await server.fetch(...request);
    await new Promise((done) => clock.setTimeout(done, 300));
    return response;
  };
  const old = await open({ since: time, fetch: slow });
  await clock.advance(200); // the server has answered, but the answer has not arrived
  server.publish(7);
  await clock.advance(1_500);
  assert.equal(old.page.badge, 7);
});

test("pages opened one after the other, each with a later cursor, send no polls", async () => {
  const { server, clock, open, show, badges } = makeBrowser();
  const tabs = [];
  for (let i = 0; i < 4; i++) {
    for (const tab of tabs) await show(tab, false);
    tabs.push(await open());
    server.time += 1; // a session has ended: the clock ticks without a notification
  }
  server.publish(2);
  await clock.advance(MINUTE);
  assert.deepEqual([badges(tabs), server.count("poll"), server.sockets.length], [[2, 2, 2, 2], 0, 1]);
});

test("a page rendered later than the leader's last response undoes nothing", async () => {
  const { server, open, clock } = makeBrowser();
  const first = await open();
  server.publish(1);
  await clock.advance(5);
  const joined = await open({ since: server.time + 5 });
  assert.equal(joined.page.badge, null);
  first.client.pause();
  server.publish(2);
  server.time += 5;
  server.publish(3);
  await clock.advance(100);
  assert.equal(joined.page.badge, 3);
});

test("values of a server restored to an earlier time reach all pages", async () => {
  const { server, clock, tabs, badges } = await openPages(2);
  server.publish(8);
  await clock.advance(5);
  server.time = 500;
  server.publish(1);
  server.sockets[0].closeWith(1006);
  await clock.advance(1_000);
  assert.deepEqual(badges(tabs), [1, 1]);
});

test("the connection's state is shown by all pages", async () => {
  const { server, clock, tabs } = await openPages(3);
  server.down();
  await clock.advance(100);
  for (const { page } of tabs) assert.equal(page.events.at(-1), "reconnecting");
  server.up();
  await clock.advance(10_000);
  for (const { page } of tabs) assert.equal(page.events.at(-1), "online");
});

test("the offline event is shown at once, until the next response", async () => {
  const { clock, tabs } = await openPages(2);
  for (const { client } of tabs) client.offline();
  for (const { page } of tabs) assert.equal(page.events.at(-1), "offline");
  await clock.advance(20_000);
  for (const { page } of tabs) assert.equal(page.events.at(-1), "online");
});

test("signed out is shown by all pages, without further requests", async () => {
  const { server, clock, tabs } = await openPages(3);
  server.poll = "signed_out";
  server.sockets[0].closeWith(4401);
  await clock.advance(1_000);
  const requests = server.requests.length;
  for (const { page } of tabs) assert.equal(page.events.at(-1), "signedOut");
  await clock.advance(30 * MINUTE);
  assert.equal(server.requests.length, requests);
});

test("a new session resumes all pages of the account", async () => {
  const { server, clock, tabs, open } = await openPages(2);
  server.poll = server.longpoll = "signed_out";
  server.websocket = "refused";
  for (const socket of [...server.sockets]) socket.closeWith(4401);
  await clock.advance(1_000);
  server.up();
  server.publish(2);
  await open();
  await clock.advance(1_000);
  for (const { page } of tabs) {
    assert.deepEqual([page.badge, page.events.slice(-3).includes("resumed"), page.events.at(-1)], [2, true, "online"]);
  }
  assert.equal(server.sockets.length, 1);
});

test("a page signed out resumes on becoming visible", async () => {
  const { server, clock, tabs, show } = await openPages(1);
  server.poll = "signed_out";
  server.sockets[0].closeWith(4401);
  await clock.advance(1_000);
  server.up();
  await show(tabs[0], false);
  await show(tabs[0], true);
  assert.deepEqual(tabs[0].page.events.slice(-2), ["resumed", "online"]);
});

test("accounts never hear each other", async () => {
  const { clock, server, open, browser } = makeBrowser();
  const other = new FakeServer(clock);
  const first = await open();
  const second = await open({ account: "8", server: other });
  server.publish(1);
  other.publish(2);
  await clock.advance(5);
  assert.deepEqual([first.page.badge, second.page.badge], [1, 2]);
  assert.deepEqual([server.sockets.length, other.sockets.length], [1, 1]);
  assert.deepEqual(new Set(browser.messages.map(({ name }) => name)), new Set(["microblog-rt:7", "microblog-rt:8"]));
});

test("a paused page releases the lock and hears nothing; it continues from its cursor", async () => {
  const { server, clock, tabs, browser } = await openPages(2);
  const [first, second] = tabs;
  first.client.pause();
  server.publish(1);
  await clock.advance(5);
  assert.equal(first.page.badge, null);
  second.client.pause();
  await clock.advance(50);
  assert.equal(server.sockets.length, 0);
  const { length } = browser.messages;
  await clock.advance(MINUTE);
  assert.equal(browser.messages.length, length);
  first.client.start();
  await clock.advance(50);
  assert.deepEqual([first.page.badge, server.sockets.length], [1, 1]);
});

for (const missing of ["locks", "openChannel"]) {
  test(`without ${missing} each page has its own connection, and a hidden one polls`, async () => {
    const { server, clock, open, show } = makeBrowser();
    const tabs = [await open({ [missing]: undefined }), await open({ [missing]: undefined })];
    assert.equal(server.sockets.length, 2);
    await show(tabs[0], false);
    assert.deepEqual([server.sockets.length, server.count("poll")], [1, 1]);
    server.publish(2);
    await clock.advance(7_000);
    assert.deepEqual([tabs[0].page.badge, server.sockets.length], [2, 1]);
    await show(tabs[0], true);
    assert.equal(server.sockets.length, 2);
  });
}

test("a browser that forbids locks gives the page its own connection", async () => {
  const { server, open, clock } = makeBrowser();
  await open({ locks: { request: async () => Promise.reject(new DOMException("forbidden", "SecurityError")) } });
  await clock.advance(5_000);
  assert.equal(server.handshakes.length, 1);
});

test("a hidden page in a browser without locks and channels polls, and opens a socket when it is shown", async () => {
  const { server, open, clock, show, badges } = makeBrowser();
  const tab = await open({ visible: false, locks: undefined, openChannel: undefined });
  server.publish(2);
  await clock.advance(10_000);
  assert.deepEqual([badges([tab]), server.sockets.length], [[2], 0]);
  assert.ok(server.count("poll") > 1);
  await show(tab, true);
  assert.equal(server.sockets.length, 1);
});

test("under random changes every page shows the count", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    let state = seed * 15485863;
    const random = () => (state = (state * 16807) % 2147483647) / 2147483647;
    const { server, clock, open, show } = makeBrowser();
    let tabs = [await open({ random }), await open({ random })];
    const pick = (list) => list[Math.floor(random() * list.length)];
    for (let step = 0; step < 40; step++) {
      const action = random();
      if (action < 0.2) tabs.push(await open({ random, visible: random() < 0.5 }));
      else if (action < 0.4 && tabs.length > 1) {
        const closed = pick(tabs);
        closed.client.pause();
        tabs = tabs.filter((tab) => tab !== closed);
      } else if (action < 0.7) await show(pick(tabs), random() < 0.5);
      else if (action < 0.8) for (const socket of [...server.sockets]) socket.closeWith(1012);
      server.publish(step);
      await clock.advance(random() * 3_000);
    }
    await clock.advance(20_000);
    for (const { page } of tabs) assert.ok([null, 39].includes(page.badge), `seed ${seed}: ${page.badge}`);
    assert.equal(server.sockets.length, 1, `seed ${seed}`);
    server.publish(99);
    await clock.advance(10);
    for (const { page } of tabs) assert.equal(page.badge, 99, `seed ${seed}`);
  }
});

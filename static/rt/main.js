// The entry: reads the page's attributes and wires everything. The only module that touches the browser by itself;
// all others are handed what they need.

import { badge } from "./badge.js";
import { Client } from "./client.js";
import { ConnectionSign } from "./connection.js";
import { dispatch } from "./known.js";
import { announceNews, markRead } from "./read.js";
import { localizeTimes } from "./times.js";

start(window);

function start(window) {
  const { document } = window;
  const language = document.documentElement.lang || undefined;
  const world = worldOf(window);
  const client = new Client(world, Number(document.body.dataset.since), pageOf(document, world, language));
  localizeTimes(document, language);
  listen(window, client);
  if (document.prerendering) document.addEventListener("prerenderingchange", () => client.start(), { once: true });
  else client.start();
  markRead({ fetch: world.fetch, document, merge: (notifications) => client.merge(notifications) });
}

function worldOf(window) {
  const { dataset } = window.document.body;
  return {
    url: new URL(dataset.notifications, window.location.href).href,
    heartbeat: 1000 * (Number(dataset.heartbeat) || 20),
    WebSocket: window.WebSocket,
    fetch: (...request) => window.fetch(...request),
    now: () => Date.now(),
    setTimeout: (act, ms) => window.setTimeout(act, ms),
    clearTimeout: (id) => window.clearTimeout(id),
    random: () => Math.random(),
    storage: () => window.localStorage,
  };
}

function pageOf(document, world, language) {
  const sign = new ConnectionSign(world, document.querySelector("#connection"), language);
  return {
    apply: dispatch({ unread_message_count: counter(document) }),
    right: () => sign.right(),
    doubt: () => sign.doubt(),
    gone: () => sign.gone(),
    signedOut() {
      sign.right();
      document.querySelector("#signed_out").hidden = false;
    },
  };
}

function counter(document) {
  const element = document.querySelector("#message_count");
  const news = document.querySelector("#new_messages");
  const announce = news ? announceNews(news, Number(element.textContent)) : () => {};
  const set_message_count = badge(element);
  return (n) => {
    set_message_count(n);
    announce(n);
  };
}

function listen(window, client) {
  const { document } = window;
  const visible = () => document.visibilityState === "visible" && client.wake();
  window.addEventListener("online", () => client.wake(true));
  window.addEventListener("pagehide", () => client.pause());
  window.addEventListener("pageshow", ({ persisted }) => persisted && client.start());
  document.addEventListener("visibilitychange", visible);
  document.addEventListener("resume", () => client.wake()); // thawed
}

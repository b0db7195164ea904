// The entry point: reads the page's attributes and connects the modules. Only this module uses browser globals;
// the others get what they need as arguments.

import { badge } from "./badge.js";
import { Client } from "./client.js";
import { countMessage } from "./counter.js";
import { LocalTimes } from "./local_time.js";
import { markRead, newMessagesNotice } from "./mark_read.js";
import { dispatch } from "./notification_filter.js";
import { OfflineNotice } from "./offline_notice.js";

start(window);

function start(window) {
  const { document } = window;
  const env = environment(window);
  const times = new LocalTimes(env, document.documentElement.lang || "en", window.navigator.languages);
  const client = new Client(env, Number(document.body.dataset.since), pageView(document, env, times));
  times.keepCurrent(document);
  countMessage(document);
  addListeners(window, client);
  if (document.prerendering) document.addEventListener("prerenderingchange", () => client.start(), { once: true });
  else client.start();
  markRead({ fetch: env.fetch, document, merge: (notifications) => client.merge(notifications) });
}

function environment(window) {
  const { dataset } = window.document.body;
  return {
    url: new URL(dataset.notifications, window.location.href).href,
    heartbeat: 1000 * (Number(dataset.heartbeat) || 20),
    WebSocket: window.WebSocket,
    fetch: (...request) => window.fetch(...request),
    now: () => Date.now(),
    setTimeout: (callback, ms) => window.setTimeout(callback, ms),
    clearTimeout: (id) => window.clearTimeout(id),
    random: () => Math.random(),
    storage: () => window.localStorage,
  };
}

function pageView(document, env, times) {
  const notice = new OfflineNotice(env, document.querySelector("#connection"), times);
  return {
    apply: dispatch({ unread_message_count: unreadCount(document) }),
    online: () => notice.online(),
    reconnecting: () => notice.reconnecting(),
    offline: () => notice.offline(),
    signedOut() {
      notice.online();
      document.querySelector("#signed_out").hidden = false;
    },
  };
}

function unreadCount(document) {
  const element = document.querySelector("#message_count");
  const newMessages = document.querySelector("#new_messages");
  const announce = newMessages ? newMessagesNotice(newMessages, Number(element.textContent)) : () => {};
  const set_message_count = badge(element);
  return (n) => {
    set_message_count(n);
    announce(n);
  };
}

function addListeners(window, client) {
  const { document } = window;
  const retryIfVisible = () => document.visibilityState === "visible" && client.retryNow();
  window.addEventListener("online", () => client.retryNow({ networkChanged: true }));
  window.addEventListener("pagehide", () => client.pause());
  window.addEventListener("pageshow", ({ persisted }) => persisted && client.start());
  document.addEventListener("visibilitychange", retryIfVisible);
  document.addEventListener("resume", () => client.retryNow()); // the browser had frozen the page
}

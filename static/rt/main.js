// The entry point: reads the page's attributes and connects the modules. Only this module uses browser globals;
// the others get what they need as arguments.

import { badge } from "./badge.js";
import { Client } from "./client.js";
import { keepFocus } from "./focus.js";
import { localizeTimes } from "./local_time.js";
import { markRead, newMessagesNotice } from "./mark_read.js";
import { dispatch } from "./notification_filter.js";
import { OfflineNotice } from "./offline_notice.js";

start(window);

function start(window) {
  const { document } = window;
  const language = document.documentElement.lang || undefined;
  const env = environment(window);
  const client = new Client(env, Number(document.body.dataset.since), pageView(document, env, language));
  localizeTimes(document, language);
  keepFocus(window);
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
    navigator: window.navigator,
  };
}

function pageView(document, env, language) {
  const notice = new OfflineNotice(env, document.querySelector("#connection"), language);
  return {
    apply: dispatch({ unread_message_count: unreadCount(document, env, language) }),
    online: () => notice.online(),
    reconnecting: () => notice.reconnecting(),
    offline: () => notice.offline(),
    signedOut() {
      notice.online();
      document.querySelector("#signed_out").hidden = false;
    },
  };
}

function unreadCount(document, env, language) {
  const element = document.querySelector("#message_count");
  const newMessages = document.querySelector("#new_messages");
  const announce = newMessages ? newMessagesNotice(newMessages, Number(element.dataset.count)) : () => {};
  const set_message_count = badge(document, env, language);
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

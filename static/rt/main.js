// The entry point: reads the page's attributes and connects the modules. Only this module uses browser globals;
// the others get what they need as arguments.

import { badge } from "./badge.js";
import { removeSentDraft } from "./drafts.js";
import { keepFocus } from "./focus.js";
import { Leader } from "./leader.js";
import { LocalTimes } from "./local_time.js";
import { MessagesPage } from "./messages.js";
import { dispatch } from "./notification_filter.js";
import { OfflineNotice } from "./offline_notice.js";
import { signedOutView } from "./signed_out.js";

start(window);

function start(window) {
  const { document } = window;
  const env = environment(window);
  const language = document.documentElement.lang || "en";
  const times = new LocalTimes(env, language, window.navigator.languages, env.wallClock);
  const messages = messagesPage(window, env, (...args) => client.merge(...args), times);
  const view = pageView(window, env, { language, times, messages });
  const client = new Leader(env, Number(document.body.dataset.since), view);
  times.keepCurrent(document);
  keepFocus(window);
  removeSentDraft(window);
  addListeners(window, client);
  if (document.prerendering) document.addEventListener("prerenderingchange", () => client.start(), { once: true });
  else client.start();
}

function messagesPage(window, env, merge, times) {
  const { document, DOMParser, IntersectionObserver } = window;
  if (!document.querySelector("#messages")) return null;
  const scrollBy = (options) => window.scrollBy(options);
  const inserted = (element) => times.show(element);
  return new MessagesPage({ ...env, DOMParser, IntersectionObserver, scrollBy }, document, { merge, inserted });
}

function environment(window) {
  const { dataset } = window.document.body;
  const url = new URL(dataset.notifications, window.location.href);
  return {
    url: url.href,
    account: url.searchParams.get("user"),
    heartbeat: 1000 * (Number(dataset.heartbeat) || 20),
    WebSocket: window.WebSocket,
    fetch: (...request) => window.fetch(...request),
    now: () => window.performance.now(),
    wallClock: () => Date.now(),
    setTimeout: (callback, ms) => window.setTimeout(callback, ms),
    clearTimeout: (id) => window.clearTimeout(id),
    random: () => Math.random(),
    storage: () => window.localStorage,
    visible: () => window.document.visibilityState === "visible",
    locks: window.navigator.locks,
    openChannel: window.BroadcastChannel && ((name) => new window.BroadcastChannel(name)),
    navigator: window.navigator,
  };
}

function pageView(window, env, { language, times, messages }) {
  const { document } = window;
  const { signedOut, resumed } = signedOutView(window);
  const notice = new OfflineNotice(env, document.querySelector("#connection"), times);
  const set_message_count = badge(document, env, language);
  return {
    apply: dispatch({
      unread_message_count(n, timestamp) {
        set_message_count(n);
        messages?.notified(n, timestamp);
      },
    }),
    online: () => notice.online(),
    reconnecting: () => notice.reconnecting(),
    offline: () => notice.offline(),
    signedOut() {
      notice.online();
      set_message_count(0);
      signedOut();
    },
    resumed,
  };
}

function addListeners(window, client) {
  const { document } = window;
  window.addEventListener("online", () => client.wake({ networkChanged: true }));
  window.addEventListener("offline", () => client.offline());
  window.addEventListener("pagehide", () => client.pause());
  window.addEventListener("pageshow", ({ persisted }) => persisted && client.start());
  document.addEventListener("freeze", () => client.pause());
  document.addEventListener("resume", () => client.start());
  document.addEventListener("visibilitychange", () => client.visibilityChanged());
}

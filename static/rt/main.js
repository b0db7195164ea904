// The entry point of the application's pages: reads the page's attributes and connects the modules. Only this module and
// the two of the npm package's API, index.js and unread_badge.js, use browser globals; the others get them as arguments.

import { badge } from "./badge.js";
import { removeSentDraft } from "./drafts.js";
import { browserEnvironment, followPage } from "./environment.js";
import { keepFocus } from "./focus.js";
import { Leader } from "./leader.js";
import { LocalTimes } from "./local_time.js";
import { longpoll } from "./longpoll.js";
import { MessagesPage } from "./messages.js";
import { dispatch } from "./notification_filter.js";
import { OfflineNotice } from "./offline_notice.js";
import { poll } from "./poll.js";
import { shortcuts } from "./shortcuts.js";
import { signedOutView } from "./signed_out.js";
import { websocket } from "./websocket.js";

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
  shortcuts(window);
  followPage(window, client);
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
  // Sites below different paths of one origin share no connection. It is empty for a site that has the origin to itself.
  const below = url.pathname.replace(/[^/]*$/, "").slice(1);
  return {
    ...browserEnvironment(window),
    url: url.href,
    account: below + url.searchParams.get("user"),
    storageKey: below ? `microblog-rt.transport ${below}` : undefined,
    heartbeat: 1000 * (Number(dataset.heartbeat) || 20),
    transports: { websocket, longpoll, poll },
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

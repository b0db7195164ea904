// The entry point of the application's pages: reads the page's attributes and connects the modules. Only this module and
// the two of the npm package's API, index.js and unread_badge.js, use browser globals; the others get them as arguments.

import { Announcer } from "./announcer.js";
import { badge, navigationBadge } from "./badge.js";
import { removeSentDraft } from "./drafts.js";
import { browserEnvironment, followPage } from "./environment.js";
import { keepFocus } from "./focus.js";
import { markShownPosts } from "./home.js";
import { Leader } from "./leader.js";
import { LocalTimes } from "./local_time.js";
import { longpoll } from "./longpoll.js";
import { MessagesPage } from "./messages.js";
import { dispatch } from "./notification_filter.js";
import { OfflineNotice } from "./offline_notice.js";
import { poll } from "./poll.js";
import { signedOutView } from "./signed_out.js";
import { websocket } from "./websocket.js";

start(window);

function start(window) {
  const { document } = window;
  const env = environment(window);
  const language = document.documentElement.lang || "en";
  const times = new LocalTimes(env, language, window.navigator.languages, env.wallClock);
  const merge = (...args) => client.merge(...args);
  const messages = messagesPage(window, env, merge, times);
  const view = pageView(window, env, { language, times, messages });
  const client = new Leader(env, Number(document.body.dataset.since), view);
  markShownPosts(env, document, merge);
  times.keepCurrent(document);
  keepFocus(window);
  removeSentDraft(window);
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
  const set_counts = {
    unread_message_count: badge(document, env, language),
    unread_mention_count: mentionBadge(document, env, language),
    unread_post_count: navigationBadge(document, language, "post", (n, sentence) => showNewPosts(document, n, sentence)),
  };
  const handler = (name) => (n, timestamp) => {
    set_counts[name](n);
    if (messages?.counted === name) messages.notified(n, timestamp);
  };
  return {
    apply: dispatch(Object.fromEntries(Object.keys(set_counts).map((name) => [name, handler(name)]))),
    online: () => notice.online(),
    reconnecting: () => notice.reconnecting(),
    offline: () => notice.offline(),
    signedOut() {
      notice.online();
      for (const set_count of Object.values(set_counts)) set_count(0);
      signedOut();
    },
    resumed,
  };
}

/** Mentions are announced as messages are. */
function mentionBadge(document, env, language) {
  const region = document.querySelector("#mention_announcer");
  const { count } = document.querySelector("#mention_count").dataset;
  const announcer = new Announcer(env, document, region, language, Number(count));
  return navigationBadge(document, language, "mention", (n) => announcer.update(n));
}

/** The link at the top of the home page, if this is the home page. */
function showNewPosts(document, n, sentence) {
  const link = document.querySelector("#new_posts");
  if (!link) return;
  const { none } = link.dataset; // the text without new posts, where the link stays
  link.hidden = !n && !none;
  if (n || none) link.textContent = sentence || none;
}

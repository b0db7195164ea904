// The entry point of the application's pages: reads the page's attributes and connects the modules. Only this module and
// the two of the npm package's API, index.js and unread_badge.js, use browser globals; the others get them as arguments.

import { Announcer } from "./announcer.js";
import { answerForm } from "./answer_form.js";
import { badge, navigationBadge } from "./badge.js";
import { ConversationPage } from "./conversation.js";
import { ConversationList } from "./conversation_list.js";
import { Drafts, removeSentDraft } from "./drafts.js";
import { browserEnvironment, followPage } from "./environment.js";
import { keepFocus } from "./focus.js";
import { markShownPosts } from "./home.js";
import { Leader } from "./leader.js";
import { LocalTimes } from "./local_time.js";
import { longpoll } from "./longpoll.js";
import { MessagesPage } from "./messages.js";
import { dispatch } from "./notification_filter.js";
import { OfflineNotice } from "./offline_notice.js";
import { Outbox } from "./outbox.js";
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
  const merge = (...args) => client.merge(...args);
  const conversation = conversationPage(window, env, merge, times);
  const messages = conversation ?? messagesPage(window, env, merge, times);
  const outbox = outboxOf(window, env, conversation);
  const view = pageView(window, env, { language, times, messages, outbox });
  const client = new Leader(env, Number(document.body.dataset.since), view);
  markShownPosts(env, document, merge);
  times.keepCurrent(document);
  keepFocus(window);
  removeSentDraft(window);
  shortcuts(window);
  followPage(window, client);
}

function messagesPage(window, env, merge, times) {
  const { document, DOMParser, IntersectionObserver } = window;
  const inserted = (element) => times.show(element);
  if (document.querySelector("#conversations")) return new ConversationList({ ...env, DOMParser }, document, { inserted });
  if (!document.querySelector("#messages")) return null;
  const scrollBy = (options) => window.scrollBy(options);
  return new MessagesPage({ ...env, DOMParser, IntersectionObserver, scrollBy }, document, { merge, inserted });
}

function conversationPage(window, env, merge, times) {
  const { document, DOMParser, IntersectionObserver } = window;
  if (!document.querySelector("#conversation")) return null;
  const scrollTo = (options) => window.scrollTo(options);
  const innerHeight = () => window.innerHeight;
  const inserted = (element) => times.show(element);
  const day = (time) => new Date(time).toDateString();
  const conversationEnv = { ...env, DOMParser, IntersectionObserver, scrollTo, innerHeight };
  return new ConversationPage(conversationEnv, document, { merge, inserted, day });
}

/** The messages of this tab that are not yet acknowledged; every page sends them, and their conversation shows them. */
function outboxOf(window, env, conversation) {
  const { document, crypto } = window;
  const { recipient } = document.querySelector("#conversation")?.dataset ?? {};
  const shows = (entry) => conversation?.live && entry.recipient === recipient;
  const outbox = new Outbox(
    {
      ...env,
      tabStorage: () => window.sessionStorage,
      key: () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join(""),
    },
    {
      url: new URL("api/v1/messages", env.url).href,
      token: () => document.querySelector(".bar [name=csrf_token]")?.value ?? "",
      owner: env.account,
    },
    { changed: show, sent: (entry, message) => shows(entry) && conversation.sent(entry, message) },
  );

  function show(entry) {
    if (!shows(entry)) return;
    conversation.showPending(entry, {
      again: () => focusField(() => outbox.again(entry.key)),
      discard: () => focusField(() => (outbox.discard(entry.key), conversation.removePending(entry.key))),
    });
  }

  /** The pressed button disappears. */
  function focusField(act) {
    document.querySelector("#message")?.focus({ preventScroll: true });
    act();
  }

  for (const entry of outbox.to(recipient)) show(entry);
  if (conversation) {
    const finePointer = () => window.matchMedia("(pointer: fine)").matches;
    answerForm({ finePointer, Event: window.Event }, document, conversation, outbox, new Drafts(window));
  }
  window.addEventListener("online", () => outbox.retry());
  outbox.flush();
  return outbox;
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

function pageView(window, env, { language, times, messages, outbox }) {
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
    online() {
      notice.online();
      outbox.connection(true);
    },
    reconnecting() {
      notice.reconnecting();
      outbox.connection(false);
    },
    offline() {
      notice.offline();
      outbox.connection(false);
    },
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

// One HTTP question for notifications: what poll.js and longpoll.js repeat. When to ask again is theirs to know.

import { Timer } from "./waits.js";

const POLL_AFTER = 5_000;

/**
 * Asks once and tells once: { status, notifications, pollAfter, wait }. Status 0 is no answer, or none that makes sense.
 * `wait` is what the server wants (ms, or undefined). After close() nothing is told.
 */
export function ask(world, { since, hold, limit }, told) {
  const abort = new AbortController();
  const timer = new Timer(world);
  const close = () => {
    told = () => {};
    timer.clear();
    abort.abort();
  };
  const tell = (answer) => {
    const teller = told;
    close();
    teller(answer);
  };
  timer.set(limit, () => tell({ status: 0 }));
  request(world, address(world.url, since, hold), abort.signal).then((answer) => tell(answer), () => tell({ status: 0 }));
  return { close };
}

/** The one URL with its query. A number's shortest text is exact, so the cursor goes back as it came. */
export function address(url, since, hold) {
  const asked = new URL(url);
  asked.searchParams.set("since", String(since));
  if (hold !== undefined) asked.searchParams.set("wait", String(hold));
  return asked.href;
}

async function request(world, url, signal) {
  const headers = { Accept: "application/json" };
  // A redirect is never ours: it is a captive portal's, and its page would not be an answer.
  const response = await world.fetch(url, { signal, headers, cache: "no-store", redirect: "error" });
  const notifications = response.status === 200 ? await response.json() : [];
  if (!Array.isArray(notifications)) throw new TypeError("not an answer");
  return {
    status: response.status,
    notifications,
    pollAfter: header(response, "Poll-After") ?? POLL_AFTER,
    wait: header(response, "Retry-After"),
  };
}

function header(response, name) {
  const seconds = Number(response.headers.get(name));
  return seconds > 0 ? seconds * 1000 : undefined;
}

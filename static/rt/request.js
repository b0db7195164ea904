// HTTP requests for notifications, as poll.js, longpoll.js and sse.js use them.

import { LONGEST_WAIT, Timer } from "./timers.js";

const POLL_AFTER = 5_000;
const REFUSALS = { signed_out: 401, subject_invalid: 401, subject_taken: 401, forbidden: 403 }; // by the code of the problem

/**
 * Sends one request and calls `onResponse` once with { status, notifications, pollAfter, wait }.
 * `status` is 0 without a valid response, and for a 401 or 403 that is not the application's own: a proxy's must not
 * end the client. `pollAfter` and `wait` (Retry-After; undefined without one) are in ms, and so
 * is `timeout`; `hold` is in seconds. After close(), `onResponse` is not called.
 */
export function requestNotifications(env, { since, hold, timeout }, onResponse) {
  const abort = new AbortController();
  const timer = new Timer(env);
  let closed = false;
  const close = () => {
    closed = true;
    timer.clear();
    abort.abort();
  };
  const finish = (response) => {
    if (closed) return;
    close();
    onResponse(response);
  };
  const fail = () => finish({ status: 0 });
  timer.set(timeout, fail);
  send(env, notificationsUrl(env.url, since, hold), abort.signal).then(finish, fail);
  return { close };
}

/** `url` with its query. The shortest text of a number is exact, so the server gets back the cursor that it sent. */
export function notificationsUrl(url, since, hold) {
  const target = new URL(url);
  target.searchParams.set("since", String(since));
  if (hold !== undefined) target.searchParams.set("wait", String(hold));
  return target.href;
}

async function send(env, url, signal) {
  const response = await get(env, url, "application/json", signal);
  const notifications = response.status === 200 ? await response.json() : [];
  if (!Array.isArray(notifications)) throw new TypeError("not an array of notifications");
  return { ...(await outcome(response)), notifications, pollAfter: milliseconds(response, "Poll-After") ?? POLL_AFTER };
}

/** The response to a GET with the client's token, if it has one, and then without cookies. */
export async function get(env, url, accept, signal) {
  const headers = { Accept: accept };
  if (env.token) headers.Authorization = `Bearer ${await env.token()}`;
  const credentials = env.token ? "omit" : "same-origin";
  // The server never redirects this request. A captive portal does, and its page is not a valid response.
  return env.fetch(url, { signal, headers, credentials, cache: "no-store", redirect: "error" });
}

/** { status, wait } of a response, as `onResponse` gets them. */
export async function outcome(response) {
  const status = [401, 403].includes(response.status) ? await refusal(response) : response.status;
  return { status, wait: milliseconds(response, "Retry-After") };
}

/** Whether the application itself refused: a proxy or a captive portal answers in HTML. */
export function isProblem(response) {
  return response.headers.get("Content-Type")?.startsWith("application/problem+json") ?? false;
}

async function refusal(response) {
  if (!isProblem(response)) return 0;
  return REFUSALS[(await response.json()).code] === response.status ? response.status : 0;
}

/** The header's value in ms, or undefined without a valid one. */
export function milliseconds(response, header) {
  const seconds = Number(response.headers.get(header));
  return seconds > 0 ? Math.min(seconds * 1000, LONGEST_WAIT) : undefined;
}

// Requests of pages that show messages: repeated until they succeed, and marks sent with a form of the page.

import { isProblem } from "./request.js";
import { Timer } from "./timers.js";

const RETRY = 5_000;
const TIMEOUT = 10_000;

/** A function that runs step() while due(), one step at a time; a step that fails is repeated after RETRY. */
export function repeated(env, due, step) {
  const retry = new Timer(env);
  let running = false;
  return async function run() {
    if (running) return;
    running = true;
    retry.clear();
    try {
      while (due()) await step();
    } catch {
      retry.set(RETRY, run);
    }
    running = false;
  };
}

/** The document at `url`, which has an element `selector`; anything else throws. */
export async function fetchPage(env, url, selector) {
  const response = await pageFetch(env, url, { headers: { Accept: "text/html" } });
  const page = new env.DOMParser().parseFromString(await response.text(), "text/html");
  if (!page.querySelector(selector)) throw new Error(`no ${selector}: ${response.status}`);
  return page;
}

/**
 * Posts the hidden fields of `form`, with `values` for some. Returns the notifications of the answer, or null if the
 * application refuses; throws without a valid answer.
 */
export async function postForm(env, form, values = {}) {
  const hidden = [...form.elements].filter(({ type }) => type === "hidden");
  const body = new URLSearchParams(hidden.map(({ name, value }) => [name, value]));
  for (const [name, value] of Object.entries(values)) body.set(name, value);
  const headers = { Accept: "application/json", "X-CSRFToken": body.get("csrf_token") };
  const response = await pageFetch(env, form.getAttribute("action"), { method: "POST", headers, body });
  if (isProblem(response) && response.status < 500) return null;
  const notifications = await response.json();
  if (!Array.isArray(notifications)) throw new Error(`not marked: ${response.status}`);
  return notifications;
}

/** The server redirects no such request while the session lasts. */
function pageFetch(env, url, options) {
  return env.fetch(url, { ...options, redirect: "error", signal: AbortSignal.timeout(TIMEOUT) });
}

// The messages page: marks messages as read and announces new ones. Without JavaScript a button marks them.

/** Posts the form when the page is first visible and passes the response to `merge`. On failure the button stays. */
export function markRead({ fetch, document, merge }) {
  const form = document.querySelector("#mark_read");
  if (!form) return;
  let state = "waiting";
  const postIfVisible = async () => {
    if (state !== "waiting" || document.prerendering || document.visibilityState !== "visible") return;
    state = "sent";
    const notifications = await post(fetch, form).catch(() => null);
    state = notifications ? "done" : "waiting";
    if (!notifications) return;
    for (const button of form.querySelectorAll("button, [type=submit]")) button.hidden = true;
    merge(notifications);
  };
  for (const event of ["visibilitychange", "prerenderingchange"]) document.addEventListener(event, postIfVisible);
  return postIfVisible();
}

async function post(fetch, form) {
  const fields = [...form.elements].filter(({ type }) => type === "hidden");
  const body = new URLSearchParams(fields.map(({ name, value }) => [name, value]));
  const headers = { Accept: "application/json", "X-CSRFToken": body.get("csrf_token") };
  const response = await fetch(form.getAttribute("action"), { method: "POST", headers, body });
  const notifications = response.ok && (await response.json());
  return Array.isArray(notifications) ? notifications : null;
}

/** Returns a function of the unread count that shows `element` when the count grows. */
export function newMessagesNotice(element, count) {
  return (n) => {
    if (n > count) element.hidden = false;
    count = n;
  };
}

// The messages page: what a person has seen is marked as read, and news is announced. Without this the button does it.

/** Posts the form once the document has been seen; `merge` gets the answer. When it fails, the button stays. */
export function markRead({ fetch, document, merge }) {
  const form = document.querySelector("#mark_read");
  if (!form) return;
  let state = "waiting";
  const seen = async () => {
    if (state !== "waiting" || document.prerendering || document.visibilityState !== "visible") return;
    state = "asked";
    const notifications = await post(fetch, form).catch(() => null);
    state = notifications ? "done" : "waiting";
    if (!notifications) return;
    for (const button of form.querySelectorAll("button, [type=submit]")) button.hidden = true;
    merge(notifications);
  };
  for (const event of ["visibilitychange", "prerenderingchange"]) document.addEventListener(event, seen);
  return seen();
}

async function post(fetch, form) {
  const fields = [...form.elements].filter(({ type }) => type === "hidden");
  const body = new URLSearchParams(fields.map(({ name, value }) => [name, value]));
  const headers = { Accept: "application/json", "X-CSRFToken": body.get("csrf_token") };
  const response = await fetch(form.getAttribute("action"), { method: "POST", headers, body });
  const notifications = response.ok && (await response.json());
  return Array.isArray(notifications) ? notifications : null;
}

/** A function that is told each count and shows `element` when it has grown. */
export function announceNews(element, count) {
  return (n) => {
    if (n > count) element.hidden = false;
    count = n;
  };
}

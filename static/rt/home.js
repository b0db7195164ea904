// The home page: marks the posts that it shows as seen. Without JavaScript a button marks them.

import { postForm, repeated } from "./page_requests.js";

/** env: fetch, setTimeout, clearTimeout. `merge` gets the notifications of the answer. */
export function markShownPosts(env, document, merge) {
  const form = document.querySelector("#see_posts");
  if (!form) return;
  let marked = false;
  // The form is removed when the session ends.
  const due = () => !marked && form.isConnected && document.visibilityState === "visible" && !document.prerendering;
  const mark = repeated(env, due, async () => {
    const notifications = await postForm(env, form);
    marked = true;
    if (notifications) merge(notifications);
  });
  for (const event of ["visibilitychange", "prerenderingchange"]) document.addEventListener(event, mark);
  mark();
}

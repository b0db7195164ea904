// The badge: how many messages wait unread, in the navigation bar. Where the number comes from is not known here.

/** A function that shows n in `element`: digits alone, and nothing at all when there are none. */
export function badge(element) {
  return function set_message_count(n) {
    element.textContent = String(n);
    element.hidden = n === 0;
  };
}

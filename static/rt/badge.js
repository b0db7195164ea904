// The badge in the navigation bar: the number of unread messages.

/** Returns a function that shows n in `element`, and hides `element` when n is 0. */
export function badge(element) {
  return function set_message_count(n) {
    element.textContent = String(n);
    element.hidden = n === 0;
  };
}

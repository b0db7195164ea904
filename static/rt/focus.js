// Keeps the focus on the page: if the focused element disappears, the heading gets it.

/** Watches the page. Without this the focus falls to the body, and a keyboard user starts again at the top. */
export function keepFocus({ document, MutationObserver, getComputedStyle }) {
  let focused = document.activeElement;
  const isGone = (element) => !element.getClientRects().length || getComputedStyle(element).visibility === "hidden";
  document.addEventListener("focusin", ({ target }) => (focused = target));
  document.addEventListener("focusout", ({ target }) => {
    // Removing an element fires this event first. If the element is still there, the user clicked beside it, or left
    // the window and will find the focus there again.
    queueMicrotask(() => {
      if (focused === target && !isGone(target) && document.hasFocus()) focused = null;
    });
  });
  const check = () => {
    // A dialog that is closed moves the focus itself.
    if (!focused || focused === document.body || focused.closest("dialog") || !isGone(focused)) return;
    const heading = document.querySelector("h1") ?? document.querySelector("main");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  };
  const options = { subtree: true, childList: true, attributes: true, attributeFilter: ["hidden"] };
  new MutationObserver(check).observe(document.body, options);
}

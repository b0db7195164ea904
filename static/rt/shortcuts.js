// Keyboard shortcuts of one key. A dialog lists them; there they can be turned off (WCAG 2.1.4).

const STORED = "microblog-rt.shortcuts"; // "off", or missing
const FIELDS = "input, textarea, select, [contenteditable]:not([contenteditable=false])";

/** "?" opens the dialog; the key of each of its links focuses the link's field, or else follows the link. */
export function shortcuts(window) {
  const { document } = window;
  const dialog = document.querySelector("#shortcuts");
  if (!dialog) return;
  const button = document.querySelector("#shortcuts_button");
  const box = document.querySelector("#shortcuts_on");
  const open = () => {
    box.checked = enabled(window);
    if (!dialog.open) dialog.showModal();
  };

  button.hidden = false;
  button.addEventListener("click", open);
  box.addEventListener("change", () => enable(window, box.checked));
  document.addEventListener("keydown", (event) => {
    if (!isPlain(event) || document.querySelector("dialog[open]:not(#shortcuts)") || !enabled(window)) return;
    const link = [...dialog.querySelectorAll("a[data-key]")].find(({ dataset }) => dataset.key === event.key);
    if (event.key === "?") open();
    else if (link) follow(link);
    else return;
    event.preventDefault(); // else the key would be typed into the field
  });

  function follow(link) {
    const field = link.dataset.field && document.querySelector(link.dataset.field);
    if (!field) return link.click();
    if (dialog.open) dialog.close();
    field.focus();
  }
}

/** Whether a key was pressed once, alone, and not to type, to choose from a list or to compose a character. */
function isPlain(event) {
  const { ctrlKey, metaKey, altKey, isComposing, repeat, defaultPrevented, target } = event;
  if (ctrlKey || metaKey || altKey || isComposing || repeat || defaultPrevented) return false;
  return target.id === "shortcuts_on" || !target.closest?.(FIELDS);
}

function enabled(window) {
  try {
    return window.localStorage.getItem(STORED) !== "off";
  } catch {
    return true; // the browser has no storage for this site
  }
}

function enable(window, on) {
  try {
    if (on) window.localStorage.removeItem(STORED);
    else window.localStorage.setItem(STORED, "off");
  } catch {
    // The choice cannot be kept.
  }
}

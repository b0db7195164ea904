// Drafts: the unsent text of each send form, kept in the tab's sessionStorage until the send is acknowledged.
// See also: send_form.js, which stores and restores them.

const PREFIX = "draft ";
const SENT = "#sent=";

/** The drafts of `window`, by the id of the form's owner and its recipient. Without storage all are empty. */
export class Drafts {
  #storage;

  constructor(window) {
    try {
      this.#storage = window.sessionStorage;
    } catch {
      this.#storage = null; // the browser blocks storage
    }
  }

  /** { text, nonce }, or null. */
  get(owner, recipient) {
    return JSON.parse(this.#storage?.getItem(key(owner, recipient)) ?? "null");
  }

  /** Stores a draft; a text of white space only removes it. */
  set(owner, recipient, { text, nonce }) {
    if (!text.trim()) return this.remove(owner, recipient);
    try {
      this.#storage?.setItem(key(owner, recipient), JSON.stringify({ text, nonce }));
    } catch {
      // The storage is full. The text is still in the form.
    }
  }

  remove(owner, recipient) {
    this.#storage?.removeItem(key(owner, recipient));
  }

  removeSent(nonce) {
    for (const name of Object.keys(this.#storage ?? {})) {
      if (name.startsWith(PREFIX) && JSON.parse(this.#storage.getItem(name)).nonce === nonce) this.#storage.removeItem(name);
    }
  }
}

/** Removes the draft of a message that was sent. The page that acknowledges it has the fragment `#sent=NONCE`. */
export function removeSentDraft(window) {
  const url = new URL(window.location.href);
  if (!url.hash.startsWith(SENT)) return;
  new Drafts(window).removeSent(url.hash.slice(SENT.length));
  window.history.replaceState(window.history.state, "", url.pathname + url.search);
}

const key = (owner, recipient) => `${PREFIX}${owner} ${recipient}`;

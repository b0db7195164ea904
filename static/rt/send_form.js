// The send form: keeps its text while it is typed, and puts it back if it was not sent. Runs also when signed out.

import { countMessage } from "./counter.js";
import { Drafts } from "./drafts.js";

start(window);

function start(window) {
  const { document } = window;
  const form = document.querySelector("#send");
  if (!form) return; // main.js has removed it, since the session has ended
  const { message, nonce } = form.elements; // a field is found by its id as well as by its name
  const { owner, recipient } = form.dataset;
  const drafts = new Drafts(window);
  const offline = document.querySelector("#draft_offline");
  const restored = document.querySelector("#draft_restored");
  const keep = () => drafts.set(owner, recipient, { text: message.value, nonce: nonce.value });

  keepNonce(window.history, nonce);
  const draft = drafts.get(owner, recipient);
  if (draft && !message.value) {
    message.value = draft.text;
    restored.hidden = false;
  }
  if (draft?.text === message.value) nonce.value = draft.nonce;
  else if (message.value) keep(); // typed before this module was loaded
  countMessage(document);

  message.addEventListener("input", keep);
  message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    keep();
    if (window.navigator.onLine !== false || !offline.hidden) return;
    event.preventDefault();
    offline.hidden = false;
  });
  window.addEventListener("online", () => (offline.hidden = true));
  restored.querySelector("button").addEventListener("click", () => {
    message.value = "";
    message.dispatchEvent(new Event("input"));
    restored.hidden = true;
    message.focus();
  });
}

/** A page that the browser loads again (Back, reload) keeps its nonce, so its text is not sent twice. */
function keepNonce(history, nonce) {
  nonce.value = history.state?.nonce ?? nonce.value;
  history.replaceState({ ...history.state, nonce: nonce.value }, "");
}

// The form of a conversation. Without JavaScript the browser sends it.

import { countMessage, measure } from "./counter.js";

/** The form of the conversation: sends through `outbox`, and keeps its text as a draft while it is typed. */
export function answerForm(env, document, conversation, outbox, drafts) {
  const form = document.querySelector("#answer");
  if (!form || !conversation.live || !Intl.Segmenter) return; // the browser sends the form
  const { message } = form.elements;
  const { owner, recipient } = document.querySelector("#conversation").dataset;
  const draft = `conversation ${recipient}`;
  message.value ||= drafts.get(owner, draft)?.text ?? "";
  countMessage(document);
  message.addEventListener("input", () => drafts.set(owner, draft, { text: message.value, nonce: "" }));
  message.addEventListener("keydown", (event) => {
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    if (!sends || !(env.finePointer() || event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    message.focus();
    const { length, codePoints } = measure(message.value);
    const counter = document.querySelector("#message_counter").dataset;
    if (!length || length > counter.length || codePoints > counter.codePoints) return;
    outbox.send(recipient, message.value);
    message.value = "";
    message.dispatchEvent(new env.Event("input"));
  });
}

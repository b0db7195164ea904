// The counter beside the field of a message. It counts as the server does, see src/microblog_rt/text.py.

const BLANK = /^[\p{Default_Ignorable_Code_Point}\p{White_Space}\p{Cc}\u2800]*$/u;

/** The text as the server stores it, its length in characters (grapheme clusters), and in code points. */
export function measure(text) {
  const normalized = text.replaceAll("\r\n", "\n").normalize("NFC");
  const clusters = Array.from(new Intl.Segmenter("en").segment(normalized), ({ segment }) => segment);
  const isShown = (cluster) => !BLANK.test(cluster);
  const shown = clusters.slice(clusters.findIndex(isShown), clusters.findLastIndex(isShown) + 1);
  const stored = shown.join("");
  return { stored, length: shown.length, codePoints: [...stored].length };
}

/** Keeps the counter of the page's message field up to date, if the page has one. Call it after setting the field. */
export function countMessage(document) {
  const counter = document.querySelector("#message_counter");
  if (!counter || !Intl.Segmenter) return;
  const field = document.querySelector("#message");
  const left = document.querySelector("#message_left");
  const tooLong = document.querySelector("#message_too_long");
  const { length: longest, codePoints: most, left: text, tooLong: sentence } = counter.dataset;
  const count = () => {
    const { length, codePoints } = measure(field.value);
    const warning = length > longest || codePoints > most ? sentence : "";
    left.textContent = text.replace("{number}", longest - length);
    // Screen readers announce every write.
    if (tooLong.textContent !== warning) tooLong.textContent = warning;
  };
  field.addEventListener("input", count);
  document.defaultView.addEventListener("pageshow", count); // the browser may have restored what was typed
  counter.hidden = false;
  count();
}

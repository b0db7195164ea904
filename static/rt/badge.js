// Numbers of unread items in the navigation bar; that of messages also in the title, the favicon and the app's icon.

import { Announcer } from "./announcer.js";
import { favicon } from "./favicon.js";

const MOST = 99; // a larger number is shown as "99+"

/** Returns the function that shows n in the badge `#NAME_count` with its sentence, and in what `also` shows. */
export function navigationBadge(document, language, name, also = () => {}) {
  const element = document.querySelector(`#${name}_count`);
  const text = document.querySelector(`#${name}_count_text`);
  const plural = new Intl.PluralRules(language);
  return function set_count(n) {
    const sentence = n && (plural.select(n) === "one" ? text.dataset.one : text.dataset.other).replace("{n}", n);
    showBadge(element, text, n, sentence || "");
    also(n, sentence || "");
  };
}

/** Returns the function that shows the number n of unread messages everywhere. `env`: setTimeout, clearTimeout, navigator (optional). */
export function badge(document, env, language) {
  const element = document.querySelector("#message_count");
  const text = document.querySelector("#message_count_text");
  const icon = document.querySelector("link[rel=icon]");
  const emptyIcon = icon.href;
  const title = document.title.replace(/^\(\d+\) /, "");
  const region = document.querySelector("#announcer");
  const announcer = new Announcer(env, document, region, language, Number(element.dataset.count));

  function show(n) {
    const short = showBadge(element, text, n, n ? announcer.sentence(n) : "");
    document.title = n ? `(${n}) ${title}` : title;
    icon.href = n ? favicon(short) : emptyIcon;
    showOnApp(env.navigator, n);
  }

  show(Number(element.dataset.count));
  return function set_message_count(n) {
    show(n);
    announcer.update(n);
  };
}

function showBadge(element, text, n, sentence) {
  const short = n > MOST ? `${MOST}+` : String(n);
  element.textContent = short;
  element.hidden = n === 0;
  text.textContent = sentence;
  return short;
}

/** Browsers without installed apps do not have these methods; the user may have forbidden the number. */
function showOnApp(navigator, n) {
  const shown = n ? navigator?.setAppBadge?.(n) : navigator?.clearAppBadge?.();
  shown?.catch(() => {});
}

// Times in the visitor's time zone: words in the page's language, order and 12 or 24 hours as in the browser's region.
// Without JavaScript the page shows UTC.

import { Timer } from "./timers.js";

const MINUTE = 60_000;
const HOUR = 60;

export class LocalTimes {
  #now;
  #formats;
  #timer;

  /** `languages` are the browser's, the preferred one first; `now` returns the time of the wall clock. */
  constructor(env, language, languages = [], now = () => Date.now()) {
    this.#now = now;
    this.#formats = formats(language, languages);
    this.#timer = new Timer(env);
  }

  now() {
    return this.#now();
  }

  /** Rewrites every <time data-format> in `root`. The title attribute gets the full date and time. */
  show(root) {
    for (const element of root.querySelectorAll("time[data-format]")) {
      const time = Date.parse(element.getAttribute("datetime"));
      if (Number.isNaN(time)) continue;
      const format = this.#formats[element.dataset.format]; // of the date or the time of day
      const text = format ? format.format(time) : this.#recent(time);
      if (element.textContent !== text) element.textContent = text;
      element.title = this.#formats.full.format(time);
    }
  }

  /** Does the same now and every minute: "5 minutes ago" changes. */
  keepCurrent(root) {
    this.show(root);
    this.#timer.set(MINUTE, () => this.keepCurrent(root));
  }

  /** The time of day, with the date unless it is today. */
  absolute(time) {
    return (this.#isToday(time) ? this.#formats.time : this.#formats.dateTime).format(time);
  }

  /** "5 minutes ago" for a time of today, otherwise the date and the time. */
  #recent(time) {
    const minutes = Math.floor((this.#now() - time) / MINUTE);
    if (!this.#isToday(time) || minutes < -1) return this.#formats.dateTime.format(time);
    const { relative } = this.#formats;
    if (minutes < 1) return relative.format(0, "second"); // a server's clock may be a little ahead
    if (minutes < HOUR) return relative.format(-minutes, "minute");
    return relative.format(-Math.floor(minutes / HOUR), "hour");
  }

  #isToday(time) {
    return new Date(time).toDateString() === new Date(this.#now()).toDateString();
  }
}

function formats(language, languages) {
  const locale = localeOf(language, languages[0] ?? language);
  const format = (options) => new Intl.DateTimeFormat(locale, options);
  return {
    date: format({ dateStyle: "medium" }),
    time: format({ timeStyle: "short" }),
    dateTime: format({ dateStyle: "medium", timeStyle: "short" }),
    full: format({ dateStyle: "full", timeStyle: "long" }),
    relative: new Intl.RelativeTimeFormat(locale, { numeric: "auto" }),
  };
}

/** The page's language with the region and the hour cycle of the browser's preferred language. */
function localeOf(language, preferred) {
  try {
    const { region } = new Intl.Locale(preferred).maximize();
    const { hourCycle } = new Intl.DateTimeFormat(preferred, { hour: "numeric" }).resolvedOptions();
    return new Intl.Locale(language, { region, hourCycle });
  } catch {
    return new Intl.Locale(language); // a system's locale such as "en-US@posix" is no language tag
  }
}

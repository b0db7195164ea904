// Times in the visitor's time zone and language. Without JavaScript the page shows UTC.

/** Rewrites every <time datetime> below `root`. The title attribute gets the full date and time. */
export function localizeTimes(root, language) {
  const short = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const full = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });
  for (const element of root.querySelectorAll("time[datetime]")) {
    const time = parse(element.getAttribute("datetime"));
    if (!time) continue;
    element.textContent = short.format(time);
    element.title = full.format(time);
  }
}

/** A Date, or null for an invalid time and for a date without a time, which does not depend on the time zone. */
function parse(datetime) {
  const time = new Date(datetime);
  return datetime.includes("T") && !Number.isNaN(time.getTime()) ? time : null;
}

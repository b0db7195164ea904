// Times in the reader's own zone and language. The page shows UTC until then, and without this for ever.

/** Rewrites every <time datetime> below `root`; its title tells the whole of it. */
export function localizeTimes(root, language) {
  const short = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const full = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });
  for (const element of root.querySelectorAll("time[datetime]")) {
    const time = moment(element.getAttribute("datetime"));
    if (!time) continue;
    element.textContent = short.format(time);
    element.title = full.format(time);
  }
}

/** A date alone is the same everywhere, so it is no moment. */
function moment(datetime) {
  const time = new Date(datetime);
  return datetime.includes("T") && !Number.isNaN(time.getTime()) ? time : null;
}

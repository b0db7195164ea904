// What is known, name by name: an older value never over a newer one. Who may tell is the client's to know.

/** Calls `apply(notifications)` with what is news. The page was rendered with everything up to `since`. */
export class Known {
  #stamps = new Map();
  #rendered;
  #apply;

  constructor(since, apply) {
    this.#rendered = since;
    this.#apply = apply;
  }

  /** A live answer to `since`. One that is not newer than asked comes from a clock set back: it replaces everything. */
  follow(notifications, since) {
    if (notifications[0]?.timestamp <= since) this.#startAfresh();
    this.merge(notifications);
  }

  merge(notifications) {
    const news = notifications.filter(({ name, timestamp }) => timestamp > (this.#stamps.get(name) ?? this.#rendered));
    if (news.length) this.#apply(news);
    for (const { name, timestamp } of news) this.#stamps.set(name, timestamp);
  }

  #startAfresh() {
    this.#stamps.clear();
    this.#rendered = -Infinity;
  }
}

/** One callback for all names: a handler for each, and silence for names of the future. */
export function dispatch(handlers) {
  return (notifications) => {
    for (const { name, data } of notifications) if (Object.hasOwn(handlers, name)) handlers[name](data);
  };
}

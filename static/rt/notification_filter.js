// Drops outdated notifications: for each name, a value is applied only if it is newer than the last one applied.

export class NotificationFilter {
  #latest = new Map();
  #renderedUpTo;
  #apply;

  /** Calls `apply(notifications)` with the newer ones. The page was rendered with everything up to `since`. */
  constructor(since, apply) {
    this.#renderedUpTo = this.from = since;
    this.#apply = apply;
  }

  /** The latest notification of each name, of those newer than `from`. */
  get latest() {
    return [...this.#latest.values()];
  }

  /**
   * Applies a response of the active connection to `since`. If it is not newer than `since`, the server's clock was set
   * back (by a restored backup), and the response replaces everything: returns true.
   */
  follow(notifications, since) {
    const restored = notifications[0]?.timestamp <= since;
    if (restored) this.reset();
    this.merge(notifications);
    return restored;
  }

  /** Applies what another page knows: the latest notification of each name newer than `from`. */
  adopt(notifications, from) {
    this.from = Math.min(this.from, from);
    this.merge(notifications);
  }

  merge(notifications) {
    const newer = notifications.filter(({ name, timestamp }) => !(timestamp <= this.#latest.get(name)?.timestamp));
    const unseen = newer.filter(({ timestamp }) => timestamp > this.#renderedUpTo);
    if (unseen.length) this.#apply(unseen);
    for (const notification of newer) this.#latest.set(notification.name, notification);
  }

  /** Forgets everything: whatever comes next is applied. */
  reset() {
    this.#latest.clear();
    this.#renderedUpTo = this.from = -Infinity;
  }
}

/** Returns an `apply` that calls the handler of each notification's name and ignores unknown names. */
export function dispatch(handlers) {
  return (notifications) => {
    for (const { name, data, timestamp } of notifications) {
      if (Object.hasOwn(handlers, name)) handlers[name](data, timestamp);
    }
  };
}

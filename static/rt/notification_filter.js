// Drops outdated notifications: for each name, a value is applied only if it is newer than the last one applied.

export class NotificationFilter {
  #timestamps = new Map();
  #renderedUpTo;
  #apply;

  /** Calls `apply(notifications)` with the newer ones. The page was rendered with everything up to `since`. */
  constructor(since, apply) {
    this.#renderedUpTo = since;
    this.#apply = apply;
  }

  /**
   * Applies a response of the active connection to `since`. If it is not newer than `since`, the server's clock was set
   * back (by a restored backup), and the response replaces everything.
   */
  follow(notifications, since) {
    if (notifications[0]?.timestamp <= since) this.#reset();
    this.merge(notifications);
  }

  merge(notifications) {
    const newer = notifications.filter(
      ({ name, timestamp }) => timestamp > (this.#timestamps.get(name) ?? this.#renderedUpTo),
    );
    if (newer.length) this.#apply(newer);
    for (const { name, timestamp } of newer) this.#timestamps.set(name, timestamp);
  }

  #reset() {
    this.#timestamps.clear();
    this.#renderedUpTo = -Infinity;
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

// The long-poll transport: the server holds each request until there are notifications.
// See also: connection.js for the interface of transports.

import { requestNotifications } from "./request.js";
import { Timer } from "./timers.js";

const HOLD = 25; // seconds: below the usual proxy time-out of 30 s
const MARGIN = 5_000;
const TOO_SOON = 1_000;

export function longpoll(env, connection) {
  const timer = new Timer(env);
  let request;
  const next = (hold) => {
    const earliest = hold && env.now() + TOO_SOON;
    const timeout = hold * 1000 + MARGIN;
    request = requestNotifications(env, { since: connection.since, hold, timeout }, (response) =>
      received(response, env.now() < earliest),
    );
  };
  const received = (response, tooSoon) => {
    if (response.status !== 200) return connection.end(response);
    // A server that answers without holding must not be requested in a tight loop.
    timer.set(tooSoon && !response.notifications.length ? response.pollAfter : 0, () => next(HOLD));
    connection.receive(response.notifications);
  };
  next(0);
  return {
    close() {
      timer.clear();
      request.close();
    },
  };
}

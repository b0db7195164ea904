// The poll transport: works wherever the page itself loads. See also: connection.js for the interface of transports.

import { requestNotifications } from "./request.js";
import { Timer, jitter } from "./timers.js";

const TIMEOUT = 10_000;

export function poll(env, connection) {
  const timer = new Timer(env);
  let request;
  const next = () => {
    request = requestNotifications(env, { since: connection.since, timeout: TIMEOUT }, received);
  };
  const received = (response) => {
    if (response.status !== 200) return connection.end(response);
    timer.set(jitter(env, response.pollAfter), next);
    connection.receive(response.notifications, response.pollAfter);
  };
  next();
  return {
    close() {
      timer.clear();
      request.close();
    },
  };
}

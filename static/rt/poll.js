// The poll as a transport: works wherever the page itself does. See line.js for the surface all transports share.

import { ask } from "./ask.js";
import { Timer, jitter } from "./waits.js";

const LIMIT = 10_000;

export function poll(world, line) {
  const timer = new Timer(world);
  let asking;
  const next = () => {
    asking = ask(world, { since: line.since, limit: LIMIT }, told);
  };
  const told = (answer) => {
    if (answer.status !== 200) return line.ended(answer);
    timer.set(jitter(world, answer.pollAfter), next);
    line.answer(answer.notifications, answer.pollAfter);
  };
  next();
  return {
    close() {
      timer.clear();
      asking.close();
    },
  };
}

// The long poll as a transport: a question the server holds until there is news. See line.js for the surface.

import { ask } from "./ask.js";
import { Timer } from "./waits.js";

const HOLD = 25; // seconds: below the usual 30 s of proxies
const MARGIN = 5_000;
const TOO_SOON = 1_000;

export function longpoll(world, line) {
  const timer = new Timer(world);
  let asking;
  const next = (hold) => {
    const enough = hold && world.now() + TOO_SOON;
    const limit = hold * 1000 + MARGIN;
    asking = ask(world, { since: line.since, hold, limit }, (answer) => told(answer, world.now() < enough));
  };
  const told = (answer, tooSoon) => {
    if (answer.status !== 200) return line.ended(answer);
    // Somebody who answers but does not hold would be asked on and on.
    timer.set(tooSoon && !answer.notifications.length ? answer.pollAfter : 0, () => next(HOLD));
    line.answer(answer.notifications);
  };
  next(0);
  return {
    close() {
      timer.clear();
      asking.close();
    },
  };
}

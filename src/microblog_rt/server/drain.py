"""Graceful shutdown: tabs are closed one after the other and told when to reconnect.

Hypercorn would cut open WebSockets with 1011, or on Python 3.12 wait for them forever.
"""

import asyncio
import contextlib
import logging
import random

from microblog_rt.hub import Hub
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)


async def drain(
    hub: Hub, seconds: float, forced: asyncio.Event, *, together: bool = False, timeouts: Timeouts = Timeouts()
) -> None:
    """Close every subscriber, spread over ``seconds``, or at once when ``forced`` is set.

    Each is asked to reconnect after as long as the whole drain takes, so that tabs return as spread out as they were
    closed. New subscribers are refused meanwhile; everything else is served. ``together`` with other processes on the
    same socket, no tab is asked to return before the last of those has ended.
    """

    def scatter() -> float:
        return random.uniform(0, timeouts.drain_scatter)  # noqa: S311

    loop = asyncio.get_running_loop()
    subscribers, start = hub.subscribers(), loop.time()
    pause = seconds / max(len(subscribers), 1)
    duration = seconds if together else pause * max(len(subscribers) - 1, 0)
    hub.stop_accepting(lambda: max(0.0, start + duration - loop.time()) + scatter())
    random.shuffle(subscribers)
    if subscribers and duration > 1:
        log.info("draining %s tabs over %.0f seconds; repeat the signal to stop at once", len(subscribers), duration)
    for number, subscriber in enumerate(subscribers):
        await _until(start + number * pause, forced)
        subscriber.close(duration + scatter())
    try:
        async with asyncio.timeout(timeouts.drain_close):
            await hub.empty.wait()
    except TimeoutError:
        log.warning("%s tabs did not close within %g seconds", len(hub.subscribers()), timeouts.drain_close)


async def _until(deadline: float, forced: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            await forced.wait()

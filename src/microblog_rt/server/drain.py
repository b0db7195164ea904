"""A stop that nobody notifications much: tabs leave one after the other, and come back so too.

Hypercorn would cut open WebSockets with 1011, or on Python 3.12 wait for them for ever. Not here: how a tab is
told (``web/socket.py``), and what is left when everybody has gone (``server/__init__.py``).
"""

import asyncio
import contextlib
import logging
import random

from microblog_rt.hub import Hub

log = logging.getLogger(__name__)

SCATTER = 2.0  # seconds, between those who leave together
PATIENCE = 5.0  # seconds, for those who were told


async def drain(hub: Hub, seconds: float, at_once: asyncio.Event, *, together: bool = False) -> None:
    """Close every subscriber, spread over ``seconds``, the last of them sooner once ``at_once`` is set.

    Each is told to come back after as long as the whole takes: they return as spread as they left, to whoever
    is there then. Nobody may begin to listen meanwhile; everything else is served. ``together`` with others on
    the same socket, nobody is sent back before the last of those has ended.
    """
    loop = asyncio.get_running_loop()
    leaving, start = hub.subscribers(), loop.time()
    pause = seconds / max(len(leaving), 1)
    lasts = seconds if together else pause * max(len(leaving) - 1, 0)
    hub.stop_accepting(lambda: max(0.0, start + lasts - loop.time()) + _scatter())
    random.shuffle(leaving)
    if leaving and lasts > 1:
        log.info("%s tabs are told to go over %.0f seconds; another signal ends it now", len(leaving), lasts)
    for number, subscriber in enumerate(leaving):
        await _until(start + number * pause, at_once)
        subscriber.close(lasts + _scatter())
    try:
        async with asyncio.timeout(PATIENCE):
            await hub.empty.wait()
    except TimeoutError:
        log.warning("some tabs did not close in time")


async def _until(moment: float, at_once: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(moment):
            await at_once.wait()


def _scatter() -> float:
    return random.uniform(0, SCATTER)  # noqa: S311

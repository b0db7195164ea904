"""Hypercorn, embedded: the listening socket, its settings, and a stop that tells every tab.

    listening.py    the socket, and a clear word where it cannot be had
    websocket.py    what Hypercorn's WebSockets must not do

Not here: the application (``app.py``).
"""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any, NoReturn

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from microblog_rt import files
from microblog_rt.hub import Hub
from microblog_rt.server import websocket
from microblog_rt.server.listening import listen

__all__ = ["configuration", "listen", "serve"]

log = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0
GARBAGE_THRESHOLDS = (50_000, 20, 100)


async def serve(app: Any, hub: Hub, listening: socket, announce: Callable[[], None]) -> None:
    """Serve ``app`` on a listening socket until SIGTERM or SIGINT; every tab is told before it ends.

    ``announce`` is called once a signal would be obeyed.
    """
    websocket.install()
    _collect_garbage_less()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def drained() -> None:
        await stop.wait()
        await _drain(hub)

    config = configuration()
    config.bind = [f"fd://{listening.detach()}"]
    # Hypercorn would cut with a traceback, and then wait for ever: the patience is ours.
    patience, config.graceful_timeout = config.graceful_timeout, float("inf")
    announce()
    serving = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=drained))
    await _ended(serving, stop, DRAIN_SECONDS + patience)


def configuration(path: Path = files.HYPERCORN) -> Config:
    """Hypercorn's settings, out of ``hypercorn.toml``."""
    return Config.from_toml(path)


async def _ended(serving: asyncio.Task[None], stop: asyncio.Event, patience: float) -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await asyncio.wait({serving}, timeout=patience)
    if not serving.done():
        _leave_behind()
    await serving


def _collect_garbage_less() -> None:
    # Tabs live long: to look through thousands of them after every few hundred allocations is a third of the work.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _leave_behind() -> NoReturn:
    # Hypercorn waits for ever for a client that takes nothing. What was acknowledged is on the disk.
    log.warning("some connections did not close; they are cut")
    logging.shutdown()
    os._exit(0)


async def _drain(hub: Hub) -> None:
    # Hypercorn would cut open WebSockets with 1011, or on Python 3.12 wait for them for ever.
    hub.close()
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await hub.emptied.wait()
    except TimeoutError:
        log.warning("some tabs did not close in time")

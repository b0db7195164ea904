"""Hypercorn, embedded: the listening socket, its settings, and a stop that tells every tab.

    listening.py    the socket, and a clear word where it cannot be had
    connection.py   deadlines for whatever a peer may leave undone
    websocket.py    what Hypercorn's WebSockets must not do
    drain.py        the stop
    supervisor.py   several such servers on one socket

Not here: the application (``app.py``).
"""

import asyncio
import gc
import logging
import os
import resource
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any, NoReturn

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from microblog_rt import files
from microblog_rt.hub import Hub
from microblog_rt.server import connection, websocket
from microblog_rt.server.drain import PATIENCE, drain
from microblog_rt.server.listening import listen
from microblog_rt.server.stop import Stop
from microblog_rt.server.supervisor import Announce, Supervisor, Work

__all__ = ["Announce", "Stop", "configuration", "listen", "serve", "supervise"]

log = logging.getLogger(__name__)

GARBAGE_THRESHOLDS = (50_000, 20, 100)
DESCRIPTORS = 2**18


async def serve(
    app: Any, hub: Hub, listening: socket, drain_seconds: float, announce: Announce, *, supervised: bool = False
) -> None:
    """Serve ``app`` on a listening socket until SIGTERM or SIGINT; every tab is told before it ends.

    ``announce`` is called once it serves, with what can stop it as well as a signal. ``supervised``: others serve on
    the same socket, and a supervisor passes on what it is told.
    """
    websocket.install()
    connection.install()
    _allow_descriptors()
    _collect_garbage_less()
    stop, drained = Stop(), asyncio.Event()
    stop.obey(supervised=supervised)

    config = configuration()

    async def trigger() -> None:
        announce(stop)
        await stop.asked.wait()
        # A client that keeps its connection, as a proxy does, might send its next request as we close it.
        config.keep_alive_max_requests = 0
        await drain(hub, drain_seconds, stop.at_once, together=supervised)
        drained.set()

    config.bind = [f"fd://{listening.detach()}"]
    _log_as_we_do(config)
    # Hypercorn would cut with a traceback, and then wait for ever: the patience is ours.
    patience, config.graceful_timeout = config.graceful_timeout, float("inf")
    serving = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=trigger))
    await _first_of(serving, drained, stop.at_once)
    await asyncio.wait({serving}, timeout=patience)
    if not serving.done():
        _leave_behind()
    await serving


def supervise(work: Work, workers: int, listening: socket, drain_seconds: float, announce: Callable[[], None]) -> int:
    """Run ``work``, which serves and calls what it is handed once it does, in several processes; the exit status."""
    patience = drain_seconds + PATIENCE + configuration().graceful_timeout + PATIENCE
    # Once the last worker has closed the socket, a client is to be refused at once, not to wait for nobody.
    return Supervisor(work, workers, patience, listening.close).run(announce)


def configuration(path: Path = files.HYPERCORN) -> Config:
    """Hypercorn's settings, out of ``hypercorn.toml``."""
    return Config.from_toml(path)


async def _first_of(serving: asyncio.Task[None], *events: asyncio.Event) -> None:
    happen = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait({serving, *happen}, return_when=asyncio.FIRST_COMPLETED)
    for each in happen:
        each.cancel()


def _log_as_we_do(config: Config) -> None:
    if config.errorlog == "-":
        config.errorlog = logging.getLogger("hypercorn.error")
        config.errorlog.setLevel(config.loglevel.upper())


def _allow_descriptors() -> None:
    # A tab is a descriptor, and the usual soft limit of 1,024 is from another time.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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

"""Hypercorn, embedded: the listening socket, its settings, and graceful shutdown.

listening.py    the listening socket
accepting.py    pauses when descriptors are scarce; connections per address
http1.py        strict HTTP/1.1, and Connection: close where the server closes
connection.py   deadlines for everything that a client may leave undone
websocket.py    corrections of Hypercorn's WebSocket stream
drain.py        graceful shutdown
shutdown.py     how a shutdown is requested
supervisor.py   several such servers on one socket
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
from hypercorn.config import Config, Sockets

from microblog_rt import files
from microblog_rt.hub import Hub
from microblog_rt.server import connection, websocket
from microblog_rt.server.accepting import ListeningSocket, ignore_pauses
from microblog_rt.server.drain import drain
from microblog_rt.server.listening import listen
from microblog_rt.server.shutdown import Shutdown
from microblog_rt.server.supervisor import Announce, Supervisor, Work
from microblog_rt.timeouts import Timeouts

__all__ = ["Announce", "Shutdown", "configuration", "listen", "serve", "supervise"]

log = logging.getLogger(__name__)

GARBAGE_THRESHOLDS = (50_000, 20, 100)
DESCRIPTORS = 2**18


async def serve(
    app: Any,
    hub: Hub,
    listening: socket,
    drain_seconds: float,
    announce: Announce,
    *,
    supervised: bool = False,
    timeouts: Timeouts = Timeouts(),
    connections_per_address: int | None = None,
) -> None:
    """Serve ``app`` on a listening socket until SIGTERM or SIGINT, then drain.

    ``announce`` is called once it serves, with an object that can request the shutdown as a signal does.
    ``supervised``: other processes serve on the same socket, and a supervisor forwards signals.
    """
    websocket.install(timeouts)
    connection.install(timeouts, connections_per_address)
    ignore_pauses(asyncio.get_running_loop())
    _raise_descriptor_limit()
    _collect_garbage_rarely()
    shutdown, drained = Shutdown(), asyncio.Event()
    shutdown.handle_signals(supervised=supervised)

    config = configuration()

    async def trigger() -> None:
        announce(shutdown)
        await shutdown.requested.wait()
        # A proxy that keeps its connection could send the next request while we close it.
        config.keep_alive_max_requests = 0
        await drain(hub, drain_seconds, shutdown.forced, together=supervised, timeouts=timeouts)
        drained.set()

    accepting = ListeningSocket(fileno=listening.detach())
    config.create_sockets = lambda: Sockets([], [accepting], [])  # type: ignore[method-assign]
    _use_our_log(config)
    # Hypercorn would cut connections with a traceback, and then wait forever; the time-out here is ours.
    timeout, config.graceful_timeout = config.graceful_timeout, float("inf")
    serving = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=trigger))
    await _first_of(serving, drained, shutdown.forced)
    await asyncio.wait({serving}, timeout=timeout)
    if not serving.done():
        _exit_now()
    await serving


def supervise(
    work: Work,
    workers: int,
    listening: socket,
    drain_seconds: float,
    announce: Callable[[], None],
    timeouts: Timeouts = Timeouts(),
) -> int:
    """Run ``work`` in several processes and return the exit status; ``work`` calls its argument once it serves."""
    timeout = drain_seconds + 2 * timeouts.drain_close + configuration().graceful_timeout
    # Once the last worker has closed the socket, clients must be refused, not queued.
    return Supervisor(work, workers, timeout, listening.close, timeouts.worker_restart).run(announce)


def configuration(path: Path = files.HYPERCORN) -> Config:
    """Hypercorn's settings, from ``hypercorn.toml``."""
    return Config.from_toml(path)


async def _first_of(serving: asyncio.Task[None], *events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait({serving, *waits}, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()


def _use_our_log(config: Config) -> None:
    if config.errorlog == "-":
        config.errorlog = logging.getLogger("hypercorn.error")
        config.errorlog.setLevel(config.loglevel.upper())


def _raise_descriptor_limit() -> None:
    # Each tab needs a descriptor; the usual soft limit is 1,024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _collect_garbage_rarely() -> None:
    # Tabs live long. Scanning thousands of them after every few hundred allocations cost a third of the CPU.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _exit_now() -> NoReturn:
    # Hypercorn waits forever for a client that reads nothing. What was acknowledged is on the disk.
    log.warning("some connections did not close in time; cutting them")
    logging.shutdown()
    os._exit(0)

"""Hypercorn, embedded: the listening sockets, its settings, and graceful shutdown.

listening.py    the listening sockets
accepting.py    pauses when descriptors are scarce; shares of the workers; connections per address
http1.py        strict HTTP/1.1, and Connection: close where the server closes
connection.py   deadlines for everything that a client may leave undone
websocket.py    corrections of Hypercorn's WebSocket stream
drain.py        graceful shutdown
shutdown.py     how a shutdown is requested
supervisor.py   several such servers on the same sockets
systemd.py      messages to systemd
"""

import asyncio
import gc
import logging
import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import socket
from typing import Any, NoReturn

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config, Sockets

from microblog_rt import files, metrics
from microblog_rt.hub import Hub
from microblog_rt.server import connection, systemd, websocket
from microblog_rt.server.accepting import SharedListener, ignore_pauses
from microblog_rt.server.drain import drain
from microblog_rt.server.listening import listen, listen_all
from microblog_rt.server.shutdown import Shutdown
from microblog_rt.server.supervisor import Announce, Supervisor, Work
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts

__all__ = ["Announce", "Shutdown", "configuration", "listen", "listen_all", "serve", "supervise"]

log = logging.getLogger(__name__)

GARBAGE_THRESHOLDS = (50_000, 20, 100)
DESCRIPTORS = 2**18


async def serve(
    app: Any,
    hub: Hub,
    listening: Sequence[socket],
    settings: Settings,
    announce: Announce,
    *,
    supervised: bool = False,
    timeouts: Timeouts = Timeouts(),
) -> None:
    """Serve ``app`` on listening sockets until a signal to stop, then drain.

    ``announce`` is called once it serves, with an object that can request the shutdown as a signal does.
    ``supervised``: other processes serve on the same sockets, and a supervisor forwards signals.
    """
    websocket.install(timeouts)
    connection.install(timeouts, settings.connections_per_peer)
    ignore_pauses(asyncio.get_running_loop())
    _raise_descriptor_limit()
    _collect_garbage_rarely()
    shutdown, drained = Shutdown(), asyncio.Event()
    shutdown.handle_signals(supervised=supervised)

    config = configuration()
    config.keep_alive_timeout = settings.keep_alive_timeout
    sockets: list[socket] = [SharedListener(each, timeouts.accept_turn) for each in listening]
    config.create_sockets = lambda: Sockets([], sockets, [])  # type: ignore[method-assign]

    async def trigger() -> None:
        announce(shutdown)
        if not supervised:
            systemd.notify(systemd.READY)
        await shutdown.requested.wait()
        if not supervised:
            systemd.notify(systemd.STOPPING)
        # A proxy that keeps its connection could send the next request while we close it.
        config.keep_alive_max_requests = 0
        await drain(hub, settings.drain, shutdown.forced, together=supervised, timeouts=timeouts)
        drained.set()

    _use_our_log(config)
    # Hypercorn would cut connections with a traceback, and then wait forever; the time-out here is ours.
    timeout, config.graceful_timeout = config.graceful_timeout, float("inf")
    progress = asyncio.create_task(_show_progress(timeouts.worker_check, supervised=supervised))
    serving = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=trigger))
    await _first_of(serving, drained, shutdown.forced)
    await asyncio.wait({serving}, timeout=timeout)
    if not serving.done():
        _exit_now()
    progress.cancel()
    await serving


def supervise(
    work: Work,
    workers: int,
    listening: Sequence[socket],
    drain_seconds: float,
    announce: Callable[[], None],
    timeouts: Timeouts = Timeouts(),
) -> int:
    """Run ``work`` in several processes and return the exit status; ``work`` calls its argument once it serves."""
    timeout = drain_seconds + 2 * timeouts.drain_close + configuration().graceful_timeout

    def close() -> None:
        # Once the last worker has closed the sockets, clients must be refused, not queued.
        for each in listening:
            each.close()

    return Supervisor(work, workers, timeout, close, timeouts).run(announce)


def configuration(path: Path = files.HYPERCORN) -> Config:
    """Hypercorn's settings, from ``hypercorn.toml``."""
    return Config.from_toml(path)


async def _show_progress(every: float, *, supervised: bool) -> None:
    """Tell the supervisor, or systemd, that the event loop runs."""
    while True:
        metrics.TURNS.count()
        if not supervised:
            systemd.notify(systemd.WATCHDOG)
        await asyncio.sleep(every)


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

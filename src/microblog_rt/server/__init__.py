"""The server: listening sockets, the push edge on their connections, Hypercorn for pages, and graceful shutdown.

listening.py    the listening sockets
accepting.py    pauses when descriptors are scarce; shares of the workers
pages.py        Hypercorn, on the connections that the push edge passes on
connection.py   deadlines for everything that a client may leave undone there
http1.py        strict HTTP/1.1, and Connection: close where the server closes
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
from collections.abc import Callable, Coroutine, Sequence
from importlib.util import find_spec
from pathlib import Path
from socket import socket
from typing import Any, NoReturn

from hypercorn.config import Config

from microblog_rt import files, metrics
from microblog_rt.push import Edge
from microblog_rt.server import systemd
from microblog_rt.server.accepting import Acceptor
from microblog_rt.server.drain import drain
from microblog_rt.server.listening import listen, listen_all
from microblog_rt.server.pages import Pages
from microblog_rt.server.shutdown import Shutdown
from microblog_rt.server.supervisor import Announce, Supervisor, Work
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts
from microblog_rt.web.admission import Admission
from microblog_rt.web.direct import Direct

__all__ = ["Announce", "Shutdown", "configuration", "listen", "listen_all", "run", "serve", "supervise"]

log = logging.getLogger(__name__)

GARBAGE_THRESHOLDS = (50_000, 20, 100)
DESCRIPTORS = 2**18


async def serve(
    app: Any,
    services: Services,
    admission: Admission,
    direct: Direct,
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
    _raise_descriptor_limit()
    shutdown = Shutdown()
    shutdown.handle_signals(supervised=supervised)
    config = configuration()
    config.keep_alive_timeout, config.root_path = settings.keep_alive_timeout, settings.path_prefix
    _use_our_log(config)
    pages = Pages(app, config, timeouts)
    edge = Edge(services.feed, services.hub, admission, settings, pages.serve, timeouts, direct)
    await pages.start()
    _collect_garbage_rarely()
    acceptors = [_acceptor(edge, each, config, timeouts) for each in listening]
    for each in acceptors:
        each.start()
    progress = asyncio.create_task(_show_progress(timeouts.worker_check, supervised=supervised))
    announce(shutdown)
    if not supervised:
        systemd.notify(systemd.READY)
    await shutdown.requested.wait()
    if not supervised:
        systemd.notify(systemd.STOPPING)
    # A proxy that keeps its connection could send the next request while we close it.
    config.keep_alive_max_requests, edge.closing = 0, True

    async def finish() -> None:
        await draining
        for acceptor in acceptors:
            acceptor.close()
        await asyncio.gather(pages.finish(), edge.close())
        await pages.stop()

    draining = asyncio.create_task(
        drain(services.hub, settings.drain, shutdown.forced, together=supervised, timeouts=timeouts)
    )
    finishing = asyncio.create_task(finish())
    await _first_of(draining, shutdown.forced)
    await asyncio.wait({finishing}, timeout=config.graceful_timeout)
    if not finishing.done():
        _exit_now()
    progress.cancel()
    await finishing


def _acceptor(edge: Edge, listening: socket, config: Config, timeouts: Timeouts) -> Acceptor:
    """Accepts connections; with TLS, if hypercorn.toml has a certificate."""
    options: dict[str, Any] = {}
    if config.ssl_enabled:
        config.alpn_protocols = ["http/1.1"]
        options = {
            "ssl": config.create_ssl_context(),
            "ssl_handshake_timeout": min(config.ssl_handshake_timeout, timeouts.request_head),
            "ssl_shutdown_timeout": timeouts.linger,
        }
    listening.listen(config.backlog)
    return Acceptor(listening, edge.connect, timeouts.accept_turn, **options)


def run(serving: Coroutine[Any, Any, None], settings: Settings) -> None:
    """Run ``serve`` to its end, on the event loop of the settings."""
    factory = None
    if settings.event_loop != "asyncio" and find_spec("uvloop") is not None:
        import uvloop  # an eighth less memory per idle tab, a tenth less CPU per event (measured)

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serving)


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


async def _first_of(task: asyncio.Task[None], event: asyncio.Event) -> None:
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


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

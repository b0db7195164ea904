"""Accepting connections: some descriptors stay free, and workers on one socket share.

An event loop would accept all waiting connections in the worker that wakes up first, and at the limit of descriptors
fail as often as its backlog is long.
"""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from microblog_rt import metrics

log = logging.getLogger(__name__)

UNEVEN = 1.1  # connections of a worker, relative to the mean over all workers
RESERVED = 64  # descriptors, for the database, the bus and files
LOG_SECONDS = 10.0
PAUSE = 1.0  # seconds
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """Accepts the connections of a listening socket: one at a time, in the worker with the fewest."""

    _logged = -LOG_SECONDS  # all sockets of the process share one line in the log

    def __init__(
        self, listening: socket.socket, connect: Callable[[], asyncio.Protocol], turn: float, **options: Any
    ) -> None:
        """``connect`` makes the protocol of a connection; ``options`` are those of ``connect_accepted_socket``.

        ``turn``: seconds that a worker with too many connections leaves to the others.
        """
        self._listening = listening
        self._connect = connect
        self._turn = turn
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._paused: asyncio.TimerHandle | None = None
        self._beginning: set[asyncio.Task[Any]] = set()
        listening.setblocking(False)

    def start(self) -> None:
        """Accept connections from now on."""
        self._paused = None
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more, and close the socket."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _accept(self) -> None:
        own, mean = metrics.connections()
        if own > UNEVEN * mean + 1:
            sleep(self._turn)
        try:
            if _few_descriptors(self._listening.fileno()):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            accepted, _ = self._listening.accept()
        except OSError as error:
            # Otherwise another worker has accepted it, the client has left, or its network has failed (accept(2)).
            if error.errno in EXHAUSTED:
                self._pause(error)
            return
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            # asyncio does so only for sockets that were created with the protocol's number. Without, the end of a
            # response waits 40 ms for the client's acknowledgement.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._begin(accepted))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, accepted: socket.socket) -> None:
        # An OSError here is the client's: it has left, or failed in the TLS handshake.
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(self._connect, accepted, **self._options)

    def _pause(self, reason: OSError) -> None:
        self._loop.remove_reader(self._listening)
        self._paused = self._loop.call_later(PAUSE, self.start)
        metrics.ACCEPT_PAUSES.count()
        if monotonic() - Acceptor._logged >= LOG_SECONDS:
            Acceptor._logged = monotonic()
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.warning("accepting no connections for a second: %s (limit %s)", reason.strerror, limit)


def _few_descriptors(any_open: int) -> bool:
    # The kernel gives the lowest free number.
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(any_open)
    os.close(lowest)
    return limit != resource.RLIM_INFINITY and lowest >= limit - min(RESERVED, limit // 4)

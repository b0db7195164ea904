"""Accepting connections: some descriptors stay free, and workers on one socket share."""

import asyncio
import errno
import logging
import os
import resource
import socket
from time import monotonic, sleep
from typing import Any

from microblog_rt import metrics

log = logging.getLogger(__name__)

UNEVEN = 1.1  # connections of a worker, relative to the mean over all workers
RESERVED = 64  # descriptors, for the database, the bus and files
LOG_SECONDS = 10.0
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Paused(OSError):
    """No connection is accepted at present; asyncio tries again after a second."""


class ListeningSocket(socket.socket):
    """A listening socket that accepts no connections while few descriptors are left."""

    _paused = False
    _logged = -LOG_SECONDS  # all sockets of the process share one line in the log

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises Paused, and then once BlockingIOError, since asyncio's loop goes on."""
        if self._paused:
            self._paused = False
            raise BlockingIOError
        try:
            if not self._scarce():
                return super().accept()
            reason = errno.EMFILE
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            reason = error.errno
        self._paused = True
        self._report(reason)
        raise Paused(reason, os.strerror(reason))

    def _scarce(self) -> bool:
        # The kernel gives the lowest free number.
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(self.fileno())
        os.close(lowest)
        return limit != resource.RLIM_INFINITY and lowest >= limit - min(RESERVED, limit // 4)

    def _report(self, reason: int) -> None:
        metrics.ACCEPT_PAUSES.count()
        if monotonic() - ListeningSocket._logged >= LOG_SECONDS:
            ListeningSocket._logged = monotonic()
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.warning("accepting no connections for a second: %s (limit %s)", os.strerror(reason), limit)


def ignore_pauses(loop: asyncio.AbstractEventLoop) -> None:
    """Keep asyncio from logging each pause with a traceback."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Paused):
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)


class SharedListener(ListeningSocket):
    """A listening socket that workers share: one connection at a time, to the worker with the fewest.

    asyncio would accept all waiting connections in the worker that wakes up first.
    """

    def __init__(self, listening: socket.socket, turn: float) -> None:
        """``turn``: seconds that a worker with too many connections leaves to the others."""
        super().__init__(fileno=listening.detach())  # with its protocol: without, asyncio would not set TCP_NODELAY
        self._turn = turn
        self._accepted = False

    def accept(self) -> tuple[socket.socket, Any]:
        if self._accepted:
            self._accepted = False
            raise BlockingIOError  # ends asyncio's loop until the next turn of the event loop
        own, mean = metrics.connections()
        if own > UNEVEN * mean + 1:
            sleep(self._turn)
        accepted, address = super().accept()
        self._accepted = True
        metrics.CONNECTIONS.count()
        return CountedSocket(accepted.family, accepted.type, accepted.proto, accepted.detach()), address


class CountedSocket(socket.socket):
    """An accepted connection, counted until it is closed."""

    __slots__ = ()

    def close(self) -> None:
        if self.fileno() >= 0:
            metrics.CONNECTIONS.count(-1)
        super().close()

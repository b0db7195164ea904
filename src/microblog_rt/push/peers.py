"""The connections of each client address, and the memory of closed ones."""

import asyncio
import gc
from ctypes import CDLL
from typing import Any, Protocol

from microblog_rt import metrics

CLOSED_PER_TRIM = 500
TRIM_DELAY = 2.0  # seconds
YOUNG = 1  # the generation that holds closed connections, not that of thousands of tabs


class Peer(Protocol):
    """A connection as this module sees it."""

    @property
    def incomplete(self) -> bool:
        """Whether the client has not sent a whole request, or only a part of the next."""

    @property
    def idle(self) -> bool:
        """Whether it is kept for a next request."""

    def abort(self) -> None:
        """Close it at once."""


class Addresses:
    """The connections of each address. Over the limit one is closed: the oldest incomplete, or else an idle one."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._peers: dict[str, dict[Peer, None]] = {}

    def enter(self, address: str, peer: Peer) -> None:
        """Count ``peer``, and close one connection of its address if there are too many."""
        if self._limit is None or not address:
            return
        peers = self._peers.setdefault(address, {})
        if len(peers) >= self._limit:
            metrics.limit_hit("connections")
            victim = next((each for each in peers if each.incomplete), None) or next(
                (each for each in peers if each.idle), peer
            )
            victim.abort()
            peers.pop(victim, None)
            if victim is peer:
                return
        peers[peer] = None

    def begin_request(self, address: str, peer: Peer) -> None:
        """Count ``peer`` as the newest of its address."""
        peers = self._peers.get(address, {})
        if peer in peers:
            del peers[peer]
            peers[peer] = None

    def leave(self, address: str, peer: Peer) -> None:
        """Count ``peer`` no longer."""
        peers = self._peers.get(address, {})
        peers.pop(peer, None)
        if not peers:
            self._peers.pop(address, None)


class Memory:
    """Returns memory to the system after many connections were closed; glibc would keep it."""

    def __init__(self) -> None:
        self._closed = 0
        self._malloc_trim: Any = getattr(CDLL(None), "malloc_trim", None)

    def connection_closed(self) -> None:
        """Trim in a moment if enough were closed since the last time."""
        self._closed += 1
        if self._closed == CLOSED_PER_TRIM and self._malloc_trim is not None:
            asyncio.get_running_loop().call_later(TRIM_DELAY, self._trim)

    def _trim(self) -> None:
        self._closed = 0
        gc.collect(YOUNG)
        self._malloc_trim(0)


def close_writing(transport: asyncio.Transport) -> None:
    """Close our side of a connection, if its transport can."""
    try:
        if transport.can_write_eof():
            transport.write_eof()
    except OSError:  # the client has reset the connection
        transport.abort()

"""An accepted connection: its deadlines, flow control and end, whatever it serves. See also: ``connection.py``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from microblog_rt import metrics
from microblog_rt.addresses import counted as counted_address
from microblog_rt.push.peers import close_writing
from microblog_rt.push.serving import Pages, Served

if TYPE_CHECKING:
    from microblog_rt.push.edge import Edge

FOREVER = float("inf")


class Accepted(asyncio.Protocol):
    """One connection, without its requests."""

    # fmt: off
    __slots__ = (
        "_address", "_buffer", "_closing", "_due", "_edge", "_in_line", "_pages", "_paused", "_requests", "_serving",
        "ended", "transport",
    )
    # fmt: on

    transport: asyncio.Transport

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._address = ""
        self._buffer = bytearray()
        self._serving: Served | None = None
        self._pages: Pages | None = None
        self._requests = 0
        self._due = FOREVER
        self._paused = self._closing = False
        self._in_line = False  # whether a request has arrived whose turn has not come
        self.ended = False  # whether the client has closed its side

    def proceed(self) -> None:
        """Continue with the next request."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # So that ``pause_writing`` is called for a client that does not read. TLS would also pause at 0 of 0 bytes.
        self.transport.set_write_buffer_limits(high=1, low=0)
        metrics.CONNECTIONS.count()
        self._edge.enter(self)
        peer = transport.get_extra_info("peername")
        self._address = counted_address(peer[0]) if isinstance(peer, tuple) else ""  # no address on a unix socket
        self._edge.addresses.enter(self._address, self)
        self._set_due(self._edge.timeouts.request_head)

    def eof_received(self) -> bool:
        self.ended = True
        serving = self._serving is not None or self._in_line
        if self._closing or not serving or not self.transport.can_write_eof():
            return False  # close the transport; TLS cannot be open in one direction
        self._set_due(self._edge.timeouts.half_closed)
        return True

    def pause_writing(self) -> None:
        self._paused = True
        if not self._closing:
            self._set_due(self._edge.timeouts.send)

    def resume_writing(self) -> None:
        self._paused = False
        if self._closing:
            self._set_due(self._edge.timeouts.linger)
        elif self._serving is None:
            self.proceed()

    def connection_lost(self, error: Exception | None) -> None:
        self._due = FOREVER
        self._buffer.clear()
        self._pages = None
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.abandon()
        self.leave()
        self._edge.connection_closed()

    @property
    def incomplete(self) -> bool:
        """Whether the client has not sent a whole request, or only a part of the next."""
        if self._pages is not None:
            return self._pages.incomplete
        serving = self._serving is not None or self._in_line
        return not serving and not self._closing and (not self._requests or bool(self._buffer))

    @property
    def idle(self) -> bool:
        """Whether it is kept for a next request."""
        if self._pages is not None:
            return self._pages.idle
        return self._serving is None and not self._buffer and not self._closing and self._requests > 0

    def abort(self) -> None:
        """Close it at once."""
        self.transport.abort()

    def close_unless_serving(self) -> None:
        """Close it if no request is being served here."""
        if self._pages is None and self._serving is None and not self._in_line and not self._closing:
            self.transport.close()

    def leave(self) -> None:
        """Count it no longer: it has ended, or is a tab, which has limits of its own."""
        self._edge.forget(self)
        self._edge.addresses.leave(self._address, self)

    def begin_request(self) -> None:
        """Note that a request has begun."""
        self._requests += 1
        self._edge.addresses.begin_request(self._address, self)

    def check_deadline(self, now: float) -> None:
        """Close it if a deadline has passed: of the rest of a head, of a next request, or to read a response."""
        if self._serving is not None:
            self._serving.check_deadline(now)
        if now < self._due:
            return
        if self._buffer or self._paused or self._closing or self._serving is not None:
            self.transport.abort()
        else:
            self.transport.close()

    def _close_gracefully(self) -> None:
        """Close our side and read for a moment longer: unread data would make the kernel reset what was sent."""
        self._closing = True
        self._buffer.clear()
        if self.ended or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.resume_reading()
        close_writing(self.transport)
        if not self._paused:
            self._set_due(self._edge.timeouts.linger)

    def _set_due(self, seconds: float) -> None:
        self._due = asyncio.get_running_loop().time() + seconds

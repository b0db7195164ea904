"""A tab: one object that is a WebSocket, its subscriber and its stream. It has no task and no timer of its own."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from microblog_rt import metrics, protocol
from microblog_rt.accounts import Reader
from microblog_rt.errors import Draining, Refused, Unavailable
from microblog_rt.feed import Stream
from microblog_rt.protocol import FURTHEST, Notification, Signal
from microblog_rt.push import frames
from microblog_rt.push.websocket import WebSocket
from microblog_rt.web.admission import Query
from microblog_rt.web.problems import ANSWERS, status_of, unexpected

if TYPE_CHECKING:
    from microblog_rt.push.connection import Connection
    from microblog_rt.push.edge import Edge

NOT_ACKNOWLEDGED = 4408
HEARTBEATS_UNANSWERED = 2
RECONNECT_WITHIN = 2000  # milliseconds

HEARTBEAT = frames.frame(frames.TEXT, b"[]")
DELIVERIES = metrics.DELIVERIES["websocket"]


class Tab(Stream, WebSocket):
    """A tab, from its handshake on; the response to that waits for the first read."""

    __slots__ = (
        *WebSocket.SLOTS,
        "__weakref__",
        "_acknowledges",
        "_address",
        "_edge",
        "_handshake",
        "_newest",
        "_next_beat",
        "_unanswered",
    )

    def __init__(self, edge: Edge, connection: Connection, reader: Reader, query: Query, address: str) -> None:
        super().__init__(edge.feed.reads, reader, query.since, query.names)
        self._edge = edge
        self._address = address  # what its limit counts
        self._handshake: Connection | None = connection  # until it is answered
        self._acknowledges = False
        self._unanswered = 0
        self._newest = 0  # the timestamp of the newest notification sent, until it is acknowledged
        self._next_beat = 0.0
        self._deadline = 0.0

    # For the hub and the feed

    def deliver(self, signal: Signal) -> None:
        # The common case first: it costs a seventh of what ``Subscriber.deliver`` and ``take`` cost.
        found = signal.notification
        if (
            found is None
            or signal.follows != self.position
            or self._deadline
            or self._pending
            or self.asked
            or self.names
            or self._handshake is not None
        ):
            super().deliver(signal)
            return
        self.position = self.cursor = self._newest = signal.clock
        self.transport.write(_frame_of(found))
        DELIVERIES.count()
        metrics.SENT_AFTER.observe(protocol.age(found))

    def can_take(self) -> bool:
        return not self._deadline

    def take(self, found: list[Notification]) -> None:
        if found:
            DELIVERIES.count()
        data = frames.frame(frames.TEXT, protocol.frame(found).encode()) if found else HEARTBEAT
        if self._handshake is None:
            if found:
                self._newest = found[-1].timestamp
            self.transport.write(data)
        else:
            self._accept(data)

    def end(self, error: Exception) -> None:
        if self._handshake is not None:
            connection, self._handshake = self._handshake, None
            self._leave()
            connection.refuse(error)
        elif isinstance(error, Unavailable):
            self.end_with(status_of(error).close_code, str(_retry_milliseconds(error)))
        elif isinstance(error, Refused):
            self.end_with(status_of(error).close_code, error.code)
        else:
            self.end_with(ANSWERS["unexpected"].close_code, unexpected(error))

    def abandon(self) -> None:
        """The client disconnected during the handshake."""
        self._handshake = None
        self._leave()

    def check_deadline(self, now: float) -> None:
        """In the handshake there is nothing to do; afterwards as in any WebSocket."""
        if self._handshake is None:
            super().check_deadline(now)

    # For the WebSocket

    def received(self, message: str | bytes) -> None:
        if not isinstance(message, str) or not protocol.is_acknowledgement(message):
            raise frames.Violation(frames.UNSUPPORTED)
        self._acknowledges = True
        self._unanswered = 0
        if self._newest and float(message) == self._newest / protocol.MICROSECONDS:
            metrics.ACKNOWLEDGED_AFTER.observe(protocol.age_of(self._newest))
            self._newest = 0

    def writable(self) -> None:
        self.advance()

    def closed(self) -> None:
        self._leave()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._edge.connection_closed()

    def due(self, now: float) -> None:
        """A deadline may have passed."""
        self.check_deadline(now)
        if self._closing or self.transport.is_closing():
            return
        if now >= self.expires:
            self.expire()
        if now >= self._next_beat:
            self._beat(now)

    def _beat(self, now: float) -> None:
        if self._acknowledges and self._unanswered == HEARTBEATS_UNANSWERED:
            self.end_with(NOT_ACKNOWLEDGED)
            return
        self._unanswered += 1
        self._newest = 0
        if self.flowing:
            self.transport.write(HEARTBEAT)
            self.ping_if_silent(now)
        # From now, not from when it was due: a burst after a pause would count as unanswered heartbeats.
        self._set_next_beat(now)

    def answer(self, page: object) -> None:
        super().answer(page)  # type: ignore[arg-type]
        self._watch_expiry()

    def _set_next_beat(self, now: float) -> None:
        self._next_beat = now + self._edge.heartbeat
        self.wheel.at(self._next_beat, self)
        self._watch_expiry()

    def _watch_expiry(self) -> None:
        """Have the expiry of the session noticed in time; at the next heartbeat if it is later than that."""
        if not self.ended and self.expires < self._next_beat:
            self.wheel.at(self.expires, self)

    def _accept(self, first: bytes) -> None:
        connection = self._handshake
        assert connection is not None  # noqa: S101
        if connection.transport.is_closing():
            return  # ``abandon`` follows
        self._handshake = None
        early = connection.accept(first)
        self.take_over(connection.transport, self._edge.wheel, self._edge.timeouts)
        self._set_next_beat(self._heard)
        if early:
            self.data_received(early)
        if connection.ended:
            self.transport.close()

    def _leave(self) -> None:
        self._edge.feed.leave(self)
        self._edge.admission.tabs.close(self.user_id, self._address, metrics.WEBSOCKETS)
        self.position = FURTHEST


_newest: tuple[Notification | None, bytes] = (None, b"")


def _frame_of(notification: Notification) -> bytes:
    """The frame with ``notification``, encoded once for all tabs."""
    global _newest
    if _newest[0] is not notification:
        _newest = notification, frames.frame(frames.TEXT, protocol.frame([notification]).encode())
    return _newest[1]


def _retry_milliseconds(error: Unavailable) -> int:
    if isinstance(error, Draining):
        return round(error.back_in * 1000)
    # Random, so that clients do not all reconnect at once.
    return random.randrange(RECONNECT_WITHIN)  # noqa: S311

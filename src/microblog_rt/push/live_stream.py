"""A stream that is the protocol of its transport: what a tab and an event stream have in common.

One object, without a task and a timer of its own. See also: ``tab.py``, ``event_stream.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from microblog_rt import metrics, protocol
from microblog_rt.accounts import Reader
from microblog_rt.feed import Stream
from microblog_rt.protocol import FURTHEST, Notification, Signal
from microblog_rt.push.writer import Writer
from microblog_rt.storage.notifications import Page
from microblog_rt.web.admission import Query

if TYPE_CHECKING:
    from microblog_rt.push.connection import Connection
    from microblog_rt.push.edge import Edge


class LiveStream(Stream, Writer):
    """A stream from its request on; the head of its response waits for the first read."""

    __slots__ = (*Writer.SLOTS, "__weakref__", "_address", "_connection", "_edge", "_next_beat")

    def __init__(self, edge: Edge, connection: Connection, reader: Reader, query: Query, address: str) -> None:
        super().__init__(edge.feed.reads, reader, query.since, query.names)
        self._edge = edge
        self._address = address  # what its limit counts
        self._connection: Connection | None = connection  # until its head is written
        self._next_beat = 0.0
        self._deadline = 0.0

    # For subclasses

    @property
    def gauge(self) -> metrics.Gauge:
        """Counts the open streams of this kind."""
        raise NotImplementedError

    @property
    def deliveries(self) -> metrics.Counter:
        """Counts what is written with notifications."""
        raise NotImplementedError

    @property
    def heartbeat(self) -> bytes:
        """What is written if nothing else is."""
        raise NotImplementedError

    def head(self, connection: Connection) -> bytes:
        """The head of the response to the request of ``connection``."""
        raise NotImplementedError

    def first(self, found: list[Notification]) -> bytes:
        """What follows the head: the first page, which may be empty."""
        raise NotImplementedError

    def encode(self, found: list[Notification]) -> bytes:
        """A change."""
        raise NotImplementedError

    def encode_one(self, found: Notification) -> bytes:
        """A change of one notification, encoded once for all streams."""
        raise NotImplementedError

    def end_with_error(self, error: Exception) -> None:
        """End after the head."""
        raise NotImplementedError

    def wrote(self, clock: int) -> None:
        """A change up to ``clock`` was written."""

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
            or self._connection is not None
        ):
            super().deliver(signal)
            return
        self.position = self.cursor = signal.clock
        self.transport.write(self.encode_one(found))
        self.wrote(signal.clock)
        self.deliveries.count()
        metrics.SENT_AFTER.observe(protocol.age(found))

    def can_take(self) -> bool:
        return not self._deadline

    def take(self, found: list[Notification]) -> None:
        self.deliveries.count(bool(found))
        if self._connection is not None:
            self._begin(self._connection, self.first(found))
        else:
            self.transport.write(self.encode(found))
            self.wrote(found[-1].timestamp)

    def answer(self, page: Page | None) -> None:
        super().answer(page)
        self._watch_expiry()

    def end(self, error: Exception) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            self.end_with_error(error)
        else:
            self._leave()
            connection.refuse(error)

    # For the connection, until the head is written

    def abandon(self) -> None:
        """The client disconnected before the head."""
        self._connection = None
        self._leave()

    def check_deadline(self, now: float) -> None:
        """Before the head there is nothing to do; afterwards as for any client."""
        if self._connection is None:
            super().check_deadline(now)

    # For the writer

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
            self.beat(now)

    def beat(self, now: float) -> None:
        """Send a heartbeat, if the client reads."""
        if self.flowing:
            self.transport.write(self.heartbeat)
        # From now, not from when it was due: a burst after a pause would count as unanswered heartbeats.
        self._set_next_beat(now)

    def _set_next_beat(self, now: float) -> None:
        self._next_beat = now + self._edge.heartbeat
        self.wheel.at(self._next_beat, self)
        self._watch_expiry()

    def _watch_expiry(self) -> None:
        """Have the expiry of the session noticed in time; at the next heartbeat if it is later than that."""
        if not self.ended and self.expires < self._next_beat:
            self.wheel.at(self.expires, self)

    def _begin(self, connection: Connection, first: bytes) -> None:
        if connection.transport.is_closing():
            return  # ``abandon`` follows
        self._connection = None
        early = connection.hand_over(self.head(connection) + first)
        self.take_over(connection.transport, self._edge.wheel, self._edge.timeouts)
        self._set_next_beat(self._loop_time())
        if early:
            self.data_received(early)
        if connection.ended:
            self.transport.close()

    def _leave(self) -> None:
        self._edge.feed.leave(self)
        self._edge.admission.tabs.close(self.user_id, self._address, self.gauge)
        self.position = FURTHEST


class EncodedOnce:
    """Encodes a notification once for all streams, while it is the newest."""

    def __init__(self, encode: Callable[[Notification], bytes]) -> None:
        self._encode = encode
        self._newest: Notification | None = None
        self._data = b""

    def __call__(self, notification: Notification) -> bytes:
        if self._newest is not notification:
            self._data = self._encode(notification)
            self._newest = notification
        return self._data

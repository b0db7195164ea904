"""A tab: one object that is a WebSocket, its subscriber and its stream. It has no task and no timer of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microblog_rt import metrics, protocol
from microblog_rt.accounts import Reader
from microblog_rt.errors import Refused
from microblog_rt.protocol import Notification
from microblog_rt.push import frames
from microblog_rt.push.live_stream import EncodedOnce, LiveStream
from microblog_rt.push.request import accept_token
from microblog_rt.push.websocket import WebSocket
from microblog_rt.web.admission import Query
from microblog_rt.web.problems import close_of
from microblog_rt.web.socket import HEARTBEATS_UNANSWERED, NOT_ACKNOWLEDGED, QUOTE

if TYPE_CHECKING:
    from microblog_rt.push.connection import Connection
    from microblog_rt.push.edge import Edge


class Tab(LiveStream, WebSocket):
    """A tab, from its handshake on; the response to that waits for the first read."""

    __slots__ = (*WebSocket.FRAME_SLOTS, "_acknowledges", "_confirmed", "_newest", "_unanswered")

    gauge = metrics.WEBSOCKETS
    deliveries = metrics.DELIVERIES["websocket"]
    heartbeat = frames.frame(frames.TEXT, b"[]")

    def __init__(self, edge: Edge, connection: Connection, reader: Reader, query: Query, address: str) -> None:
        super().__init__(edge, connection, reader, query, address)
        self._acknowledges = False
        self._unanswered = 0
        self._confirmed = query.since  # the cursor that the client sent last
        self._newest = 0  # the timestamp of the newest notification sent, until it is acknowledged

    # For the stream

    def head(self, connection: Connection) -> bytes:
        return self._edge.handshake(accept_token(connection.head.key or b""))

    def first(self, found: list[Notification]) -> bytes:
        if found and found[0].timestamp <= self._confirmed:
            self._confirmed = 0  # the cursor was ahead of the clock
        return self.encode(found)

    def encode(self, found: list[Notification]) -> bytes:
        return frames.frame(frames.TEXT, protocol.frame(found).encode()) if found else self.heartbeat

    def encode_one(self, found: Notification) -> bytes:
        return _frame_of(found)

    def wrote(self, clock: int) -> None:
        self._newest = clock

    def confirmed(self) -> int:
        return min(super().confirmed(), self._confirmed)

    def end_with_error(self, error: Exception) -> None:
        self.end_with(*close_of(error))

    def beat(self, now: float) -> None:
        if self._acknowledges and self._unanswered == HEARTBEATS_UNANSWERED:
            self.end_with(NOT_ACKNOWLEDGED)
            return
        self._unanswered += 1
        self._newest = 0
        flowing = self.flowing
        super().beat(now)
        if flowing:
            self.ping_if_silent(now)

    # For the WebSocket

    def received(self, message: str | bytes) -> None:
        if isinstance(message, str) and message.startswith(QUOTE):
            self._renew(message)
            return
        if not isinstance(message, str) or not protocol.is_acknowledgement(message):
            raise frames.Violation(frames.UNSUPPORTED)
        self._acknowledges = True
        self._unanswered = 0
        self._confirmed = protocol.acknowledged(message)
        if self._newest and float(message) == self._newest / protocol.MICROSECONDS:
            metrics.ACKNOWLEDGED_AFTER.observe(protocol.age_of(self._newest))
            self._newest = 0

    def _renew(self, message: str) -> None:
        try:
            self.renew(self._edge.admission.renewed(self.reader, message))
        except Refused as error:
            self.end_with_error(error)
        except ValueError:
            raise frames.Violation(frames.UNSUPPORTED) from None


_frame_of = EncodedOnce(lambda each: frames.frame(frames.TEXT, protocol.frame([each]).encode()))

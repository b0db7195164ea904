"""An event stream: one object that is a streamed response, its subscriber and its stream.

The body is chunked, so that a client can tell the end of a stream from a lost connection. The connection ends with it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING

from microblog_rt import metrics
from microblog_rt.accounts import Reader
from microblog_rt.errors import Refused
from microblog_rt.hub import UNKNOWN
from microblog_rt.protocol import Notification
from microblog_rt.push.live_stream import EncodedOnce, LiveStream
from microblog_rt.web.admission import Query
from microblog_rt.web.formats import FORMATS, SSE, Format
from microblog_rt.web.problems import unexpected

if sys.platform == "linux":
    import fcntl
    import termios

if TYPE_CHECKING:
    from microblog_rt.push.connection import Connection
    from microblog_rt.push.edge import Edge

LAST_CHUNK = b"0\r\n\r\n"


class EventStream(LiveStream):
    """A streamed response, from its request on. What its client sends after the request is ignored."""

    __slots__ = ("_confirmed", "_format")

    def __init__(self, edge: Edge, connection: Connection, reader: Reader, query: Query, address: str) -> None:
        super().__init__(edge, connection, reader, query, address)
        self._format = query.form or SSE
        self._confirmed = UNKNOWN

    @property
    def gauge(self) -> metrics.Gauge:
        return self._format.gauge

    @property
    def deliveries(self) -> metrics.Counter:
        return self._format.deliveries

    @property
    def heartbeat(self) -> bytes:
        return _chunk(self._format.heartbeat)

    def head(self, connection: Connection) -> bytes:
        return self._edge.stream_head(self._format, connection.head)

    def first(self, found: list[Notification]) -> bytes:
        return _chunk(self._format.opening() + self._format.encode(found))

    def encode(self, found: list[Notification]) -> bytes:
        return _chunk(self._format.encode(found))

    def encode_one(self, found: Notification) -> bytes:
        return _CHUNKS[self._format](found)

    def confirmed(self) -> int:
        """What is written counts once the client's kernel, or a proxy's, has acknowledged it."""
        written = super().confirmed()
        if written > self._confirmed and self._connection is None and _is_acknowledged(self.transport):
            self._confirmed = written
        return min(written, self._confirmed)

    def end_with_error(self, error: Exception) -> None:
        if not isinstance(error, Refused):
            unexpected(error)
        last = self._format.ending(error)
        self.finish((_chunk(last) if last else b"") + LAST_CHUNK)

    def _begin(self, connection: Connection, first: bytes) -> None:
        if connection.head.method != b"HEAD":
            super()._begin(connection, first)
        else:
            super()._begin(connection, b"")
            if self._connection is None:
                self.finish(b"")


def _is_acknowledged(transport: asyncio.Transport) -> bool:
    """Whether nothing of what was written waits in this process or in the kernel."""
    if transport.get_write_buffer_size():
        return False
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or connection.family == socket.AF_UNIX:
        return True
    descriptor = connection.fileno()  # -1 once it is closed
    return descriptor >= 0 and fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)) == bytes(4)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _encoded(form: Format, notification: Notification) -> bytes:
    return _chunk(form.encode([notification]))


_CHUNKS = {each: EncodedOnce(partial(_encoded, each)) for each in FORMATS}

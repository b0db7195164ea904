"""The push edge of a process: what its connections share."""

import asyncio
import time
from email.utils import formatdate
from typing import Protocol

from microblog_rt import metrics
from microblog_rt.accounts import Reader
from microblog_rt.feed import Feed
from microblog_rt.hub import Hub
from microblog_rt.push.accepted import Accepted
from microblog_rt.push.connection import Connection
from microblog_rt.push.event_stream import EventStream
from microblog_rt.push.held_poll import HeldPoll
from microblog_rt.push.peers import Addresses, Memory
from microblog_rt.push.request import NO_HEAD, Head, Targets
from microblog_rt.push.serving import Pages
from microblog_rt.push.tab import Tab
from microblog_rt.push.wheel import Wheel
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts
from microblog_rt.web.admission import Admission, Answer, Headers, Query
from microblog_rt.web.direct import Direct
from microblog_rt.web.formats import Format

CHECK_EVERY = 0.1  # seconds


class PassOn(Protocol):
    """Serves a connection's next requests, the first of which begins with ``received``."""

    def __call__(self, connection: Connection, received: bytes) -> Pages: ...


class Edge:
    """Serves ``/notifications`` on accepted connections, and what ``direct`` answers; ``pass_on`` serves the rest."""

    def __init__(
        self,
        feed: Feed,
        hub: Hub,
        admission: Admission,
        settings: Settings,
        pass_on: PassOn,
        timeouts: Timeouts = Timeouts(),
        direct: Direct | None = None,
    ) -> None:
        self.direct = direct
        self.feed = feed
        self.hub = hub
        self.admission = admission
        self.pass_on = pass_on
        self.timeouts = timeouts
        self.heartbeat = settings.heartbeat
        self.keep_alive = settings.keep_alive_timeout
        self.targets = Targets(settings.path_prefix)
        self.wheel = Wheel()
        self.addresses = Addresses(settings.connections_per_peer)
        self.memory = Memory()
        self.connections: set[Accepted] = set()  # all but tabs
        self._checking: asyncio.TimerHandle | None = None
        self.closing = False  # whether every response is the last one of its connection
        self._empty: asyncio.Event | None = None
        self._date = -1, b""
        self._empty_poll = -1, b""
        fields = [(b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"heartbeat", b"%g" % self.heartbeat)]
        self._handshake = b"HTTP/1.1 101 Switching Protocols\r\n" + _lines(fields)

    def connect(self) -> Connection:
        """The protocol of a new connection."""
        return Connection(self)

    def enter(self, connection: Accepted) -> None:
        """Note that ``connection`` is open."""
        self.connections.add(connection)
        if self._checking is None:
            self._checking = asyncio.get_running_loop().call_later(CHECK_EVERY, self._check_deadlines)
        if self._empty is not None:  # ``close`` was called between accepting it and now
            connection.transport.close()

    def _check_deadlines(self) -> None:
        # A deadline of its own for each request would cost more than looking at a thousand connections.
        loop = asyncio.get_running_loop()
        self._checking = loop.call_later(CHECK_EVERY, self._check_deadlines) if self.connections else None
        now = loop.time()
        for connection in list(self.connections):
            connection.check_deadline(now)

    def forget(self, connection: Accepted) -> None:
        """Note that ``connection`` has ended, or is a tab."""
        self.connections.discard(connection)
        if not self.connections and self._empty is not None:
            self._empty.set()

    def connection_closed(self) -> None:
        """Note that a connection has ended, of whichever kind."""
        metrics.CONNECTIONS.count(-1)
        self.memory.connection_closed()

    def stream(
        self, connection: Connection, reader: Reader, query: Query, address: str
    ) -> Tab | EventStream | HeldPoll:
        """A stream that answers the request of ``connection``, counted as open at ``address``. Raises TooMany."""
        if connection.head.websocket:
            self.admission.tabs.open(reader.user_id, address, metrics.WEBSOCKETS)
            return Tab(self, connection, reader, query, address)
        if query.form is not None:
            self.admission.tabs.open(reader.user_id, address, query.form.gauge)
            return EventStream(self, connection, reader, query, address)
        self.admission.tabs.open(reader.user_id, address, metrics.LONG_POLLS)
        return HeldPoll(self, connection, reader, query, address)

    async def close(self) -> None:
        """Close the connections that are kept for a next request, and wait until the others have ended."""
        self.closing = True
        self._empty = asyncio.Event()
        for connection in list(self.connections):
            connection.close_unless_serving()
        if self.connections:
            await self._empty.wait()
        self.wheel.close()

    def response(self, answer: Answer, fields: Headers, request: Head = NO_HEAD) -> bytes:
        """The response to ``request`` as HTTP/1.1, with these header fields as well."""
        length = [*self.admission.cors(request.headers), (b"content-length", b"%d" % len(answer.body))]
        body = request.method != b"HEAD"
        head = b"HTTP/1.1 %d %s\r\n" % (answer.status, answer.status.phrase.encode())
        return head + _lines([*answer.headers, *length, *fields]) + self._date_line() + (answer.body if body else b"")

    def is_plain(self, request: Head) -> bool:
        """Whether the response to a poll with nothing new is ``empty_poll``."""
        return request.method != b"HEAD" and not self.admission.cors(request.headers)

    def empty_poll(self) -> bytes:
        """The response to a poll with nothing new, encoded once a second."""
        if self._empty_poll[0] != self._now():
            self._empty_poll = self._now(), self.response(self.admission.page(b"[]", polled=True), [])
        return self._empty_poll[1]

    def handshake(self, token: bytes) -> bytes:
        """The response that accepts a WebSocket handshake."""
        return self._handshake + b"sec-websocket-accept: " + token + b"\r\n" + self._date_line()

    def stream_head(self, form: Format, request: Head) -> bytes:
        """The head of a streamed response, with which its connection ends."""
        fields = [(b"transfer-encoding", b"chunked"), (b"connection", b"close")]
        headers = [*self.admission.stream_headers(form, self.heartbeat, request.headers), *fields]
        return b"HTTP/1.1 200 OK\r\n" + _lines(headers) + self._date_line()

    def _now(self) -> int:
        return int(time.time())

    def _date_line(self) -> bytes:
        now = self._now()
        if self._date[0] != now:
            self._date = now, b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n\r\n"
        return self._date[1]


def _lines(fields: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % field for field in fields])

"""An accepted connection until it is a tab: serves polls, and passes every other request to the server of pages.

The first bytes of each request decide. One parser reads a request, and none served here has a body, so two parsers
never disagree about where a request ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from microblog_rt import metrics, protocol
from microblog_rt.accounts import Reader
from microblog_rt.addresses import counted as counted_address
from microblog_rt.errors import BadRequest, Refused
from microblog_rt.protocol import Notification
from microblog_rt.push import request
from microblog_rt.push.held_poll import HeldPoll
from microblog_rt.push.peers import close_writing
from microblog_rt.push.request import Head
from microblog_rt.push.serving import Admitted, Pages, PollRead, Served
from microblog_rt.push.tab import Tab
from microblog_rt.web.admission import Answer, Query
from microblog_rt.web.notifications import counted

if TYPE_CHECKING:
    from microblog_rt.push.edge import Edge

FOREVER = float("inf")
AT_ONCE = 8  # requests in one turn of the event loop
PIPELINED = 64 * 1024  # bytes kept behind a request that is being served, or a response that is not being read


class Connection(asyncio.Protocol):
    """One connection, and what it is doing."""

    # fmt: off
    __slots__ = (
        "_address", "_buffer", "_closing", "_due", "_edge", "_head", "_last", "_looping", "_pages", "_paused",
        "_requests", "_serving", "ended", "transport",
    )
    # fmt: on

    transport: asyncio.Transport

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._address = ""
        self._buffer = bytearray()
        self._head = request.NO_HEAD  # of the request that is being served
        self._last: Admitted | None = None
        self._serving: Served | None = None
        self._pages: Pages | None = None
        self._requests = 0
        self._due = FOREVER
        self._looping = self._paused = self._closing = False
        self.ended = False  # whether the client has closed its side

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

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._buffer and self._requests and self._serving is None:
            self._set_due(self._edge.timeouts.request_head)
        self._buffer += data
        self._advance()
        if len(self._buffer) > PIPELINED:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.ended = True
        if self._closing or self._serving is None or not self.transport.can_write_eof():
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
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._due = FOREVER
        self._buffer.clear()
        self._pages = self._last = None
        self._head = request.NO_HEAD
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
        return self._serving is None and not self._closing and (not self._requests or bool(self._buffer))

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
        if self._pages is None and self._serving is None and not self._closing:
            self.transport.close()

    def leave(self) -> None:
        """Count it no longer: it has ended, or is a tab, which has limits of its own."""
        self._edge.forget(self)
        self._edge.addresses.leave(self._address, self)

    def begin_request(self) -> None:
        """Note that a request has begun."""
        self._requests += 1
        self._edge.addresses.begin_request(self._address, self)

    def come_back(self, data: bytes) -> None:
        """Continue with ``data``, which follows on a page."""
        self._pages = None
        self.transport.set_protocol(self)
        self.data_received(data)

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

    def respond_with(self, found: list[Notification], *, polled: bool) -> None:
        """Answer with notifications."""
        if found or not polled or self._closes or not self._edge.is_plain(self._head):
            self.respond(self._edge.admission.page(protocol.frame(found).encode(), polled=polled))
        else:
            self._wrote(self._edge.empty_poll())

    def refuse(self, error: Exception) -> None:
        """Answer with an error."""
        admission = self._edge.admission
        self.respond(admission.refusal(error) if isinstance(error, Refused) else admission.failure(error))

    def respond(self, answer: Answer) -> None:
        """Answer the request that is being served."""
        fields = [(b"connection", b"close")] if self._closes else []
        self._wrote(self._edge.response(answer, fields, self._head))

    def accept(self, first: bytes) -> bytes:
        """Answer a WebSocket handshake and send the ``first`` frame; what has arrived after the handshake.

        The caller is the protocol of the transport from now on.
        """
        self._due = FOREVER
        self._serving = None
        self.leave()
        self.transport.write(self._edge.handshake(request.accept_token(self._head.key or b"")) + first)
        self.transport.resume_reading()
        early = bytes(self._buffer)
        self._buffer.clear()  # ``_advance`` may be running
        return early

    @property
    def _closes(self) -> bool:
        """Whether the connection ends with this response."""
        return self._edge.closing or self.ended or self._head.websocket or not self._head.keep_alive

    def _wrote(self, data: bytes) -> None:
        self._serving = None
        self.transport.write(data)
        if self._closes:
            self._close_gracefully()
        elif not self._paused:
            self._next()

    def _next(self) -> None:
        """Continue with what has arrived of the next request, or wait for it."""
        self._set_due(self._edge.timeouts.request_head if self._buffer else self._edge.keep_alive)
        if len(self._buffer) <= PIPELINED:
            self.transport.resume_reading()
        self._advance()

    def _advance(self) -> None:
        if self._looping:
            return
        self._looping = True
        for _ in range(AT_ONCE):
            if not self._buffer or self._serving is not None or self._closing or self._paused:
                break
            if self.transport.is_closing() or not self._take_request():
                break
        else:  # others have their turn; ``_looping`` stays set until then
            asyncio.get_running_loop().call_soon(self._resume)
            return
        self._looping = False

    def _resume(self) -> None:
        self._looping = False
        self._advance()

    def _take_request(self) -> bool:
        """Begin the next request; False if it has not arrived, or was passed on."""
        text = request.next_head(self._buffer)
        if text is None:
            return False
        head = self._last.head if self._last is not None and self._last.text == text else request.parse(text)
        if head is None:
            self._pass_on()
            return False
        del self._buffer[: len(text)]
        self.begin_request()
        self._head = head
        self._due = FOREVER
        try:
            self._serve(text, head)
        except Exception as error:
            self.refuse(error)
        return True

    def _pass_on(self) -> None:
        received = bytes(self._buffer)
        self._buffer.clear()
        self._due = FOREVER
        self._last = None
        self._pages = self._edge.pass_on(self, received)

    def _serve(self, text: bytes, head: Head) -> None:
        if head.websocket and head.key is None:
            answer = self._edge.admission.refusal(BadRequest())
            self.respond(answer._replace(headers=[*answer.headers, (b"sec-websocket-version", request.VERSION)]))
            return
        reader, query = self._admitted(text, head)
        if not head.websocket and not query.wait:
            self._poll(reader, query)
            return
        self._edge.hub.check_open()
        kind, gauge = (Tab, metrics.WEBSOCKETS) if head.websocket else (HeldPoll, metrics.LONG_POLLS)
        address = self._edge.admission.address(request.scope(head, self.transport))
        self._edge.admission.tabs.open(reader.user_id, address, gauge)
        stream: Tab | HeldPoll = kind(self._edge, self, reader, query, address)
        self._serving = stream
        self._edge.feed.open(stream)

    def _admitted(self, text: bytes, head: Head) -> tuple[Reader, Query]:
        """The reader and the query. Those of the last request, if it was the same: a poll repeated costs a third."""
        if self._last is None or self._last.text != text:
            reader, query = self._edge.admission.admit(request.scope(head, self.transport), socket=head.websocket)
            self._last = None if head.websocket else Admitted(text, head, reader, query)
            return reader, query
        return self._last.reader, self._last.query

    def _poll(self, reader: Reader, query: Query) -> None:
        found = self._edge.feed.known(reader, query.since, query.names)
        if found is not None:
            self.respond_with(counted("poll", found), polled=query.wait is None)
        else:
            self._serving = PollRead(self, self._edge, reader, query)

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

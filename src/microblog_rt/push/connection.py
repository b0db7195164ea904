"""An accepted connection until it is a tab: serves some requests, and passes others to the server of pages.

The first bytes of each request decide. One parser reads a request, except a form that the server of pages must
answer: that one gets the same bytes, whose length a single Content-Length has given.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from microblog_rt import protocol
from microblog_rt.accounts import Reader
from microblog_rt.errors import BadRequest, Refused, SubjectUnknown
from microblog_rt.protocol import Notification
from microblog_rt.push import request
from microblog_rt.push.accepted import FOREVER, Accepted
from microblog_rt.push.request import Head
from microblog_rt.push.serving import AccountLookup, Admitted, PollRead, Post
from microblog_rt.web.admission import Answer, Query
from microblog_rt.web.notifications import counted

if TYPE_CHECKING:
    from microblog_rt.push.edge import Edge

AT_ONCE = 8  # requests in one turn of the event loop
PIPELINED = 64 * 1024  # bytes kept behind a request that is being served, or a response that is not being read


class Connection(Accepted):
    """One connection, and what it is doing."""

    __slots__ = ("_last", "_looping", "_waited", "head")

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge)
        self.head = request.NO_HEAD  # of the request that is being served
        self._last: Admitted | None = None
        self._looping = False
        self._waited = False  # whether a head has arrived before its body

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._buffer and self._requests and self._serving is None:
            self._set_due(self._edge.timeouts.request_head)
        self._buffer += data
        self._advance()
        if len(self._buffer) > PIPELINED:
            self.transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._last = None
        self.head = request.NO_HEAD
        super().connection_lost(error)

    def is_for_us(self, data: bytes) -> bool | None:
        """Whether ``data`` begins a request that is served here, and not by the server of pages; None if it may."""
        return self._edge.targets.is_for_us(data)

    def come_back(self, data: bytes) -> None:
        """Continue with ``data``, which follows on a page."""
        self._pages = None
        self.transport.set_protocol(self)
        self.data_received(data)

    def respond_with(self, found: list[Notification], *, polled: bool) -> None:
        """Answer with notifications."""
        if found or not polled or self._closes or not self._edge.is_plain(self.head):
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
        self._wrote(self._edge.response(answer, fields, self.head))

    def hand_over(self, first: bytes) -> bytes:
        """Send ``first``, which answers the request that is being served; what has arrived after the request.

        The caller is the protocol of the transport from now on.
        """
        self._due = FOREVER
        self._serving = None
        self.leave()
        self.transport.write(first)
        self.transport.resume_reading()
        early = bytes(self._buffer)
        self._buffer.clear()  # ``_advance`` may be running
        return early

    @property
    def _closes(self) -> bool:
        """Whether the connection ends with this response."""
        return self._edge.closing or self.ended or self.head.websocket or not self.head.keep_alive

    def _wrote(self, data: bytes) -> None:
        self._serving = None
        self.transport.write(data)
        if self._closes:
            self._close_gracefully()
        elif not self._paused:
            self.proceed()

    def proceed(self) -> None:
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
        text = self._edge.targets.next_head(self._buffer)
        if text is None:
            return False
        last = self._last
        targets = self._edge.targets
        head = (last and targets.repeated(last.head, last.text, text)) or targets.parse(text)
        if head is None:
            self._pass_on()
            return False
        if head.length is not None:
            return self._take_post(text, head, head.length)
        del self._buffer[: len(text)]
        self.begin_request()
        self.head = head
        self._due = FOREVER
        self.serve(text, head)
        return True

    def serve(self, text: bytes, head: Head) -> None:
        """Serve a request that has been taken, or refuse it."""
        try:
            self._serve(text, head)
        except SubjectUnknown as unknown:
            self._serving = AccountLookup(self, self._edge, unknown, text, head)
        except Exception as error:
            self.refuse(error)

    def _take_post(self, text: bytes, head: Head, length: int) -> bool:
        """The same for a request whose body may follow its head by itself; one that arrives slowly is not for us."""
        end = len(text) + length
        arrived = len(self._buffer) >= end
        if self._edge.direct is None or not (arrived or not self._waited):
            self._pass_on()
            return False
        self._waited = not arrived
        if arrived:
            received = bytes(self._buffer[:end])
            del self._buffer[:end]
            self.begin_request()
            self.head, self._due = head, FOREVER
            self._serving = Post(self, self._edge.direct, request.scope(head, self.transport), received, len(text))
        return arrived

    def pass_on(self, received: bytes) -> None:
        """Let the server of pages answer the request that is being served, and those that follow."""
        self._serving = None
        self._buffer[:0] = received
        self._pass_on()

    def _pass_on(self) -> None:
        self._waited = False
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
        if not head.websocket and query.form is None and not query.wait:
            self._poll(reader, query)
            return
        self._edge.hub.check_open()
        address = self._edge.admission.address(request.scope(head, self.transport))
        self._serving = stream = self._edge.stream(self, reader, query, address)
        self._edge.feed.open(stream)

    def _admitted(self, text: bytes, head: Head) -> tuple[Reader, Query]:
        """The reader and the query. What was checked in the last request is not checked in one that repeats it."""
        last, admission = self._last, self._edge.admission
        if last is None or last.head.headers is not head.headers:
            reader, query = admission.admit(request.scope(head, self.transport), socket=head.websocket)
        elif last.head is not head:
            reader, query = last.reader, admission.query(head.query_string, head.headers, last.reader)
        else:
            return last.reader, last.query
        self._last = None if head.websocket else Admitted(text, head, reader, query)
        return reader, query

    def _poll(self, reader: Reader, query: Query) -> None:
        found = self._edge.feed.known(reader, query.since, query.names)
        if found is not None:
            self.respond_with(counted("poll", found), polled=query.wait is None)
        else:
            self._serving = PollRead(self, self._edge, reader, query)

"""HTTP/1.1 as RFC 9112 wants a server to read it, where h11 and Hypercorn are more lenient.

Also: every response after which the connection closes says so, since a proxy would send the next request into it.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer
from hypercorn import protocol
from hypercorn.protocol.events import Body, EndBody, Event, Response
from hypercorn.protocol.h11 import H11Protocol

from microblog_rt.push.request import origin_form
from microblog_rt.web.admission import PATH as NOTIFICATIONS

WAITING_BODY = 4096  # bytes; the application starts once a body is complete or longer than this
CHUNK_HEADER = 256  # bytes

BARE_LF = re.compile(rb"(?<!\r)\n")
EMPTY_LINES = re.compile(rb"(?:\r\n)+")
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

CLOSE = (b"connection", b"close")


class StrictBuffer(ReceiveBuffer):
    """h11's buffer, which also limits heads that arrive whole, and refuses a bare LF."""

    def __init__(self, longest_head: int) -> None:
        super().__init__()
        self._longest_head = longest_head

    def skip_empty_lines(self) -> None:
        if found := EMPTY_LINES.match(self._data):
            self._extract(found.end())

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """The lines up to the first empty one, or None if that has not arrived."""
        if self._data.startswith(b"\r\n"):
            self._extract(2)
            return []
        searched = self._multiple_lines_search
        end = self._data.find(b"\r\n\r\n", max(searched - 3, 0))
        length = len(self) if end < 0 else end + 4
        if length > self._longest_head:
            raise h11.LocalProtocolError("head too long", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if BARE_LF.search(self._data, searched, length):
            raise h11.LocalProtocolError("bare LF")
        if end < 0:
            self._multiple_lines_search = length
            return None
        return self._extract(length)[:-4].split(b"\r\n")

    def maybe_extract_next_line(self) -> bytearray | None:
        """The header of a chunk with its CRLF, or None if that has not arrived."""
        line = super().maybe_extract_next_line()
        begun = self._data if line is None else line
        text = begun.removesuffix(b"\r\n").removesuffix(b"\r")
        if len(text) > CHUNK_HEADER or CONTROL.search(text):
            raise h11.LocalProtocolError("invalid chunk header")
        return line


class StrictConnection(h11.Connection):
    """h11's connection, which refuses ambiguous requests and ignores what follows the last one."""

    def __init__(self, longest_head: int, prefix: str) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=longest_head)
        self._notifications = (prefix + NOTIFICATIONS).encode()
        self._receive_buffer: StrictBuffer = StrictBuffer(longest_head)
        self.absolute = False  # whether the last target was in absolute form
        self.handshake = False  # whether the last request is a WebSocket handshake
        self.has_body = False  # whether the last request has a body

    def receive_data(self, data: bytes) -> None:
        if self.their_state is not h11.MUST_CLOSE:
            super().receive_data(data)

    def next_event(self) -> Any:
        if self.their_state is h11.MUST_CLOSE:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE:
            self._receive_buffer.skip_empty_lines()
            if bytes(self._receive_buffer) == b"\r":
                return h11.NEED_DATA
        event = super().next_event()
        return self._checked(event) if isinstance(event, h11.Request) else event

    def _checked(self, request: h11.Request) -> h11.Request:
        names = {name for name, _ in request.headers}
        if not request.http_version.startswith(b"1."):
            raise h11.RemoteProtocolError("HTTP version", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
            raise h11.RemoteProtocolError("ambiguous length")
        self.has_body = bool(names & {b"transfer-encoding", b"content-length"})
        target = self._target(request)
        self.handshake = b"sec-websocket-key" in names
        if self.handshake and target.partition(b"?")[0] == self._notifications:
            # ``push`` serves valid handshakes; Hypercorn would negotiate compression.
            raise h11.RemoteProtocolError("invalid handshake")
        if not target.startswith(b"/") and (request.method, target) != (b"OPTIONS", b"*"):
            raise h11.RemoteProtocolError("invalid target")
        return h11.Request(
            method=request.method, headers=request.headers, target=target, http_version=request.http_version
        )

    def _target(self, request: h11.Request) -> bytes:
        target = origin_form(request.target, [value for name, value in request.headers if name == b"host"])
        self.absolute = target != request.target
        if target is None:
            raise h11.RemoteProtocolError("target and Host differ")
        # The absolute form of ``*`` has no path.
        return b"*" if self.absolute and request.method == b"OPTIONS" and request.target.count(b"/") == 2 else target


class Protocol(H11Protocol):
    """Hypercorn's protocol on a strict connection, without HTTP/2."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection = StrictConnection(self.config.h11_max_incomplete_size, self.config.root_path)
        self.requests = 0

    async def stream_send(self, event: Event) -> None:
        if isinstance(event, Response) and event.status_code >= HTTPStatus.OK and self._closes_after(event):
            headers = [each for each in event.headers if each[0].lower() != b"connection"]
            event = replace(event, headers=[*headers, CLOSE])
        await super().stream_send(event)

    def _closes_after(self, response: Response) -> bool:
        """Whether this response is the last one: the request has not ended, or no other may follow."""
        connection = self.connection
        if not isinstance(connection, StrictConnection) or connection.their_state is not h11.DONE:
            return True
        if self.context.terminated.is_set():
            return True
        # The next request may be for another site, or a frame.
        return (connection.absolute or connection.handshake) and response.status_code >= HTTPStatus.BAD_REQUEST

    async def _check_protocol(self, request: h11.Request) -> None:
        """Neither ``Upgrade: h2c`` nor HTTP/2 by prior knowledge: browsers use neither without TLS."""
        if request.method.upper() == b"HEAD" and isinstance(self.connection, StrictConnection):
            # Hypercorn accepts ``head`` for HEAD and omits the body, which h11 would then expect.
            self.connection._request_method = b"HEAD"

    async def _create_stream(self, request: h11.Request) -> None:
        self.requests += 1
        if any(name == b"upgrade" for name, _ in request.headers):
            request = _without_upgrade(request)
        if _has_short_body(request):
            self.stream = WaitingStream(lambda: self._start(request))  # type: ignore[assignment]
        else:
            await super()._create_stream(request)

    async def _start(self, request: h11.Request) -> Any:
        await super()._create_stream(request)
        return self.stream


def _without_upgrade(request: h11.Request) -> h11.Request:
    """The request as one that asks for no other protocol, which a server may always assume."""
    headers = [each for each in request.headers if each[0] != b"upgrade"]
    return h11.Request(method=request.method, headers=headers, target=request.target, http_version=request.http_version)


def _has_short_body(request: h11.Request) -> bool:
    if request.method.upper() in (b"GET", b"HEAD"):
        return False
    headers = dict(request.headers)
    return b"transfer-encoding" in headers or 0 < int(headers.get(b"content-length", 0)) <= WAITING_BODY


class WaitingStream:
    """Collects a short body, so that a request that is never completed does not occupy the application."""

    def __init__(self, start: Callable[[], Awaitable[Any]]) -> None:
        self._start = start
        self._body = bytearray()

    async def handle(self, event: Event) -> None:
        if isinstance(event, Body):
            self._body += event.data
        if isinstance(event, EndBody) or len(self._body) > WAITING_BODY:
            stream = await self._start()
            await stream.handle(Body(event.stream_id, bytes(self._body)))
            if isinstance(event, EndBody):
                await stream.handle(event)


def install() -> None:
    """Use this protocol for every connection of this process."""
    vars(protocol)["H11Protocol"] = Protocol

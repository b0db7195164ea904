"""What Hypercorn's WebSockets must not do: negotiate an extension, keep what is too big, wait for the dead.

Compression would cost 105 KB a tab and 16 microseconds a frame, and let a small frame inflate to hundreds of
megabytes. Hypercorn has no setting for it, so the handshake is told that no extension was offered. A frame
without extensions is a length and the text (RFC 6455, 5.2), the same for every tab. Tests fail when Hypercorn's
handshake and stream are no longer found where this replaces them. Not here: deadlines of the connection below
(``connection.py``), and what clients may say (``web/socket.py``).
"""

import socket
from base64 import b64decode
from collections import deque
from functools import lru_cache
from struct import pack
from time import monotonic
from typing import Any

from hypercorn.protocol import h11, ws_stream
from hypercorn.protocol.events import Body, Data, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from microblog_rt import metrics

FRAMES, FRAMES_SECONDS = 20, 10.0  # fragments and control frames count
SILENT_SECONDS = 25.0  # longer than a heartbeat: whoever acknowledges those is never pinged
PONG_SECONDS = 15.0
SEND_BUFFER = 16 * 1024  # bytes, in the kernel: a client that does not read is noticed soon


class PlainHandshake(ws_stream.Handshake):
    """A handshake that has heard of no extension and no subprotocol, and so parses and accepts none."""

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__([each for each in headers if each[0].lower() not in UNHEARD_OF], http_version)
        names = [name.lower() for name, _ in headers]
        self._is_clear = names.count(b"sec-websocket-key") == names.count(b"sec-websocket-version") == 1

    def is_valid(self) -> bool:
        """Whether RFC 6455, 4.2.1, is kept; the right Connection and Upgrade are what led here."""
        if self.http_version == "2":
            return super().is_valid()
        return self.http_version == "1.1" and self._is_clear and self.version == VERSION and _is_key(self.key)


# Connection: Hypercorn fails on what is not ASCII there.
UNHEARD_OF = {b"sec-websocket-extensions", b"sec-websocket-protocol", b"connection"}
VERSION = b"13"


def _is_key(key: bytes | None) -> bool:
    try:
        return len(b64decode(key or b"", validate=True)) == 16
    except ValueError:
        return False


class PlainStream(ws_stream.WSStream):
    """A stream that is bounded in what it takes, frames a text once for all tabs, and knows when nobody is there."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._frames: deque[float] | None = None
        self._heard = 0.0
        self._pinged: float | None = None

    async def handle(self, event: Event) -> None:
        if self.closed:
            return
        if isinstance(event, StreamClosed) and self.state is ASGIWebsocketState.CONNECTED:
            metrics.closed(CloseReason.ABNORMAL_CLOSURE)
        if not isinstance(event, (Body, Data)):
            await super().handle(event)
            if self.closed and isinstance(event, Request):
                await self.send(StreamClosed(stream_id=self.stream_id))
        elif self.state is ASGIWebsocketState.HANDSHAKE:
            await self._refuse_haste()
        elif self.state is ASGIWebsocketState.CONNECTED:
            self.connection.receive_data(event.data)
            await self._handle_events()

    async def _refuse_haste(self) -> None:
        """Frames, or a body, before the handshake was answered; the application must hear of it, or waits for ever."""
        self.closed = True
        await self.app_put({"type": "websocket.disconnect", "code": 1006})  # type: ignore[misc]
        await self._send_error_response(400)
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close"), (b"sec-websocket-version", VERSION)]
        await self.send(Response(stream_id=self.stream_id, status_code=status_code, headers=headers))
        await self.send(EndBody(stream_id=self.stream_id))

    async def app_send(self, message: Any) -> None:
        if (
            message is None
            or message["type"] != "websocket.send"
            or message.get("text") is None
            or self.state is not ASGIWebsocketState.CONNECTED
        ):
            await super().app_send(message)
        elif not self.closed and self.connection.state is ConnectionState.OPEN:
            frame = text_frame(message["text"]) + self._ping()
            if not self._sent_at_once(frame):
                await self.send(Data(stream_id=self.stream_id, data=frame))

    async def _accept(self, message: Any) -> None:
        await super()._accept(message)
        self._heard = monotonic()
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    async def _handle_events(self) -> None:
        self._heard, self._pinged = monotonic(), None
        for event in self.connection.events():
            if isinstance(event, CloseConnection):
                await self._end(event.code if self.connection.state is ConnectionState.OPEN else None, event)
            elif self._too_many(event):
                metrics.limit_hit("frames")
                await self._end(CloseReason.POLICY_VIOLATION)
            elif isinstance(event, Message):
                await self._take(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            if self.closed:
                return
        if self.buffer.length + self._announced() > self.buffer.max_length:
            await self._end(CloseReason.MESSAGE_TOO_BIG)

    async def _take(self, part: Message[Any]) -> None:
        length = self.buffer.length + len(part.data.encode() if isinstance(part, TextMessage) else part.data)
        if length > self.buffer.max_length:
            await self._end(CloseReason.MESSAGE_TOO_BIG)
            return
        self.buffer.extend(part)
        self.buffer.length = length  # in bytes; Hypercorn counts the characters of a text
        if part.message_finished:
            await self.app_put(self.buffer.to_message())  # type: ignore[misc]
            self.buffer.clear()

    def _announced(self) -> int:
        """How much of the frame that has begun is still to come, by its head."""
        decoder = self.connection._proto._frame_decoder
        if decoder.header is None or decoder.header.opcode.iscontrol():
            return 0
        return decoder.header.payload_len - decoder.payload_consumed

    async def _end(self, code: int | None, theirs: CloseConnection | None = None) -> None:
        """Say ``code``, or answer their close, and be done: the application hears of a disconnection."""
        metrics.closed(code or (theirs.code if theirs else CloseReason.NORMAL_CLOSURE))
        self.buffer.clear()
        answer = theirs.response() if theirs and code is None else CloseConnection(code or CloseReason.NORMAL_CLOSURE)
        await self._send_wsproto_event(answer)
        self.state = ASGIWebsocketState.CLOSED
        await self.send(StreamClosed(stream_id=self.stream_id))

    def _too_many(self, event: Any) -> bool:
        if isinstance(event, Message) and not event.frame_finished:
            return False
        if self._frames is None:
            self._frames = deque(maxlen=FRAMES)
        full = len(self._frames) == FRAMES and self._heard - self._frames[0] < FRAMES_SECONDS
        self._frames.append(self._heard)
        return full

    def _ping(self) -> bytes:
        """A ping where it is time for one, to go with a frame; one that was not answered ends the connection."""
        now = monotonic()
        if self._pinged is not None:
            if now - self._pinged >= PONG_SECONDS:
                self._transport.abort()
        elif now - self._heard >= SILENT_SECONDS:
            self._pinged = now
            return PING
        return b""

    def _sent_at_once(self, frame: bytes) -> bool:
        """Whether a client that has taken all before could be written to without a wait: so nearly always.

        Three coroutines and a lock fewer, for each tab. Whoever is behind goes the long way, and is waited for.
        """
        connection = self._connection
        transport = connection.writer.transport
        if transport.get_write_buffer_size() or transport.is_closing() or connection.send_lock.locked():
            return False
        transport.write(frame)
        return True

    @property
    def _connection(self) -> Any:
        return self.send.__self__.send.__self__  # type: ignore[attr-defined]

    @property
    def _transport(self) -> Any:
        return self._connection.writer.transport


@lru_cache(maxsize=64)
def text_frame(text: str) -> bytes:
    """A whole text frame, unmasked, as a server sends it."""
    payload = text.encode()
    if len(payload) < 126:
        return pack("!BB", FINAL_TEXT, len(payload)) + payload
    if len(payload) < 2**16:
        return pack("!BBH", FINAL_TEXT, 126, len(payload)) + payload
    return pack("!BBQ", FINAL_TEXT, 127, len(payload)) + payload


FINAL_TEXT = 0x81
PING = b"\x89\x00"


async def _stay_with_http_1(protocol: Any, request: Any) -> None:
    """No ``Upgrade: h2c``, and no HTTP/2 by prior knowledge: browsers speak neither without TLS."""
    if request.method.upper() == b"HEAD":
        # Hypercorn takes ``head`` for it and leaves the body out, which h11 would miss.
        protocol.connection._request_method = b"HEAD"


def install() -> None:
    """Make every WebSocket of this process such a one, and cleartext HTTP/1.1 alone."""
    h11.H11Protocol._check_protocol = _stay_with_http_1  # type: ignore[assignment, method-assign]
    vars(ws_stream)["Handshake"] = PlainHandshake
    # Not in HTTP/2, which TLS in hypercorn.toml would bring: there a frame must not go to the transport as it is.
    vars(h11)["WSStream"] = PlainStream

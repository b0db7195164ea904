"""Corrections of Hypercorn's WebSockets: no extensions, bounded messages, and pings for silent clients.

Compression would cost 105 KB per tab and 16 microseconds per frame, and let a small frame inflate to hundreds of
megabytes. Hypercorn has no setting for it, so the handshake drops the header that offers it. Without extensions a frame
is a length and the text (RFC 6455, 5.2), the same for every tab. Tests fail if Hypercorn's handshake and stream are no
longer where this replaces them.
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
from microblog_rt.timeouts import Timeouts

FRAMES, FRAMES_SECONDS = 20, 10.0  # fragments and control frames count
SEND_BUFFER = 16 * 1024  # bytes, in the kernel: small, so that a client that does not read is noticed soon


class PlainHandshake(ws_stream.Handshake):
    """A handshake that ignores offered extensions and subprotocols."""

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__([each for each in headers if each[0].lower() not in IGNORED], http_version)
        names = [name.lower() for name, _ in headers]
        self._is_clear = names.count(b"sec-websocket-key") == names.count(b"sec-websocket-version") == 1

    def is_valid(self) -> bool:
        """Whether the request satisfies RFC 6455, 4.2.1; its Connection and Upgrade were checked before."""
        if self.http_version == "2":
            return super().is_valid()
        return self.http_version == "1.1" and self._is_clear and self.version == VERSION and _is_key(self.key)


# Connection: Hypercorn fails on non-ASCII values there.
IGNORED = {b"sec-websocket-extensions", b"sec-websocket-protocol", b"connection"}
VERSION = b"13"


def _is_key(key: bytes | None) -> bool:
    try:
        return len(b64decode(key or b"", validate=True)) == 16
    except ValueError:
        return False


class PlainStream(ws_stream.WSStream):
    """A stream that bounds messages, encodes a frame once for all tabs, and pings silent clients."""

    timeouts = Timeouts()  # replaced by ``install``

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._frames: deque[float] | None = None
        self._received_at = 0.0
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
            await self._refuse_early_data()
        elif self.state is ASGIWebsocketState.CONNECTED:
            self.connection.receive_data(event.data)
            await self._handle_events()

    async def _refuse_early_data(self) -> None:
        """Refuse data sent before the handshake was answered, and end the application, which would wait forever."""
        self.closed = True
        await self.app_put({"type": "websocket.disconnect", "code": 1006})  # type: ignore[misc]
        await self._send_error_response(400)
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        headers = [(b"content-length", b"0"), (b"sec-websocket-version", VERSION)]
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
            if not self._written_directly(frame):
                await self.send(Data(stream_id=self.stream_id, data=frame))

    async def _accept(self, message: Any) -> None:
        await super()._accept(message)
        self._received_at = monotonic()
        self._connection.leave_address()
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    async def _handle_events(self) -> None:
        self._received_at, self._pinged = monotonic(), None
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
        """The number of bytes of the current frame that are still to come, by its header."""
        decoder = self.connection._proto._frame_decoder
        if decoder.header is None or decoder.header.opcode.iscontrol():
            return 0
        return decoder.header.payload_len - decoder.payload_consumed

    async def _end(self, code: int | None, received: CloseConnection | None = None) -> None:
        """Close with ``code``, or answer the client's close; the application gets a disconnect."""
        metrics.closed(code or (received.code if received else CloseReason.NORMAL_CLOSURE))
        self.buffer.clear()
        answer = (
            received.response() if received and code is None else CloseConnection(code or CloseReason.NORMAL_CLOSURE)
        )
        await self._send_wsproto_event(answer)
        self.state = ASGIWebsocketState.CLOSED
        await self.send(StreamClosed(stream_id=self.stream_id))

    def _too_many(self, event: Any) -> bool:
        if isinstance(event, Message) and not event.frame_finished:
            return False
        if self._frames is None:
            self._frames = deque(maxlen=FRAMES)
        full = len(self._frames) == FRAMES and self._received_at - self._frames[0] < FRAMES_SECONDS
        self._frames.append(self._received_at)
        return full

    def _ping(self) -> bytes:
        """A ping to send with a frame, if one is due; an unanswered one ends the connection."""
        now = monotonic()
        if self._pinged is not None:
            if now - self._pinged >= self.timeouts.websocket_pong:
                self._transport.abort()
        elif now - self._received_at >= self.timeouts.websocket_silence:
            self._pinged = now
            return PING
        return b""

    def _written_directly(self, frame: bytes) -> bool:
        """Write to the transport if the client has read everything before; whether it had, as nearly always.

        Saves three coroutines and a lock per tab. A slow client is written to with a time-out instead.
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
    """An unmasked text frame, as a server sends it."""
    payload = text.encode()
    if len(payload) < 126:
        return pack("!BB", FINAL_TEXT, len(payload)) + payload
    if len(payload) < 2**16:
        return pack("!BBH", FINAL_TEXT, 126, len(payload)) + payload
    return pack("!BBQ", FINAL_TEXT, 127, len(payload)) + payload


FINAL_TEXT = 0x81
PING = b"\x89\x00"


def install(timeouts: Timeouts = Timeouts()) -> None:
    """Use these classes for every WebSocket of this process."""
    PlainStream.timeouts = timeouts
    vars(ws_stream)["Handshake"] = PlainHandshake
    # Not in HTTP/2, which TLS in hypercorn.toml would enable: its frames must not bypass the stream.
    vars(h11)["WSStream"] = PlainStream

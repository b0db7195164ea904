"""What Hypercorn's WebSockets must not do: negotiate an extension, and frame the same text once for every tab.

Compression would cost 105 KB a tab and 16 microseconds a frame, and let a small frame inflate to hundreds of
megabytes. Hypercorn has no setting for it, so the handshake is told that no extension was offered. A frame
without extensions is a length and the text (RFC 6455, 5.2), the same for every tab. Tests fail when Hypercorn's
handshake and stream are no longer found where this replaces them.
"""

from functools import lru_cache
from struct import pack
from typing import Any

from hypercorn.protocol import h11, ws_stream
from hypercorn.protocol.events import Data
from hypercorn.protocol.ws_stream import ASGIWebsocketState
from wsproto.connection import ConnectionState


class PlainHandshake(ws_stream.Handshake):
    """A handshake that has heard of no extension and no subprotocol, and so parses and accepts none."""

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__([each for each in headers if each[0].lower() not in UNHEARD_OF], http_version)


UNHEARD_OF = {b"sec-websocket-extensions", b"sec-websocket-protocol"}


class PlainStream(ws_stream.WSStream):
    """A stream whose text frames are made once for all tabs that are told the same."""

    async def app_send(self, message: Any) -> None:
        if (
            message is None
            or message["type"] != "websocket.send"
            or message.get("text") is None
            or self.state is not ASGIWebsocketState.CONNECTED
        ):
            await super().app_send(message)
        elif not self.closed and self.connection.state is ConnectionState.OPEN:
            frame = text_frame(message["text"])
            if not self._sent_at_once(frame):
                await self.send(Data(stream_id=self.stream_id, data=frame))

    def _sent_at_once(self, frame: bytes) -> bool:
        """Whether a client that has taken all before could be written to without a wait: so nearly always.

        Three coroutines and a lock fewer, for each tab. Whoever is behind goes the long way, and is waited for.
        """
        connection: Any = self.send.__self__.send.__self__  # type: ignore[attr-defined]
        transport = connection.writer.transport
        if transport.get_write_buffer_size() or transport.is_closing() or connection.send_lock.locked():
            return False
        transport.write(frame)
        return True


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


async def _stay_with_http_1(_: Any, __: Any) -> None:
    """No ``Upgrade: h2c``, and no HTTP/2 by prior knowledge: browsers speak neither without TLS."""


def install() -> None:
    """Make every WebSocket of this process such a one, and cleartext HTTP/1.1 alone."""
    h11.H11Protocol._check_protocol = _stay_with_http_1  # type: ignore[assignment, method-assign]
    ws_stream.Handshake = PlainHandshake  # type: ignore[misc]
    # Not in HTTP/2, which TLS in hypercorn.toml would bring: there a frame must not go to the transport as it is.
    h11.WSStream = PlainStream  # type: ignore[attr-defined]

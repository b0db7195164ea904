"""What Hypercorn's WebSockets must not do: negotiate an extension.

Compression would cost 105 KB a tab and 16 microseconds a frame, and let a small frame inflate to hundreds of
megabytes. Hypercorn has no setting for it, so the handshake is told that no extension was offered. A test
fails when Hypercorn's handshake is no longer found where this looks for it.
"""

from hypercorn.protocol import ws_stream


class PlainHandshake(ws_stream.Handshake):
    """A handshake that has heard of no extension, and so parses and accepts none."""

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        offered = [(name, value) for name, value in headers if name.lower() != b"sec-websocket-extensions"]
        super().__init__(offered, http_version)


def install() -> None:
    """Make every WebSocket of this process one without extensions."""
    ws_stream.Handshake = PlainHandshake  # type: ignore[misc]

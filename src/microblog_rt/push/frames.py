"""WebSocket frames without I/O (RFC 6455, section 5): no extensions, and messages of at most ``LARGEST`` bytes."""

import codecs
from collections.abc import Iterator
from struct import pack
from typing import NamedTuple

LARGEST = 4096  # bytes of a message

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL, MASKED = 0x80, 0x80

NORMAL, PROTOCOL_ERROR, UNSUPPORTED, NO_CODE, ABNORMAL = 1000, 1002, 1003, 1005, 1006
BAD_DATA, POLICY, TOO_BIG = 1007, 1008, 1009
CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})


class Violation(Exception):
    """The client broke the protocol; the connection must be closed with ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Frame(NamedTuple):
    """A received frame: a control frame, or a fragment. ``message`` is the whole message after its last fragment."""

    opcode: int
    payload: bytes
    message: str | bytes | None = None


class Decoder:
    """Decodes the frames of one client; exists only while a frame or a message is incomplete."""

    __slots__ = ("_buffer", "_fragments", "_text")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fragments: bytearray | None = None  # of the message that has begun
        self._text: codecs.IncrementalDecoder | None = None  # checks them, if they are text

    @property
    def pending(self) -> bool:
        """Whether a frame or a message is incomplete."""
        return bool(self._buffer) or self._fragments is not None

    def receive(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes. Raises Violation as soon as the protocol is broken."""
        self._buffer += data
        while len(self._buffer) >= 2:
            header = self._header()
            if header is None:
                return
            first, start, length = header
            if len(self._buffer) < start + length:
                return
            payload = _unmasked(bytes(self._buffer[start - 4 : start]), bytes(self._buffer[start : start + length]))
            del self._buffer[: start + length]
            yield self._frame(first & 0xF, payload, final=bool(first & FINAL))

    def _header(self) -> tuple[int, int, int] | None:
        """The first byte, where the payload begins, and its length; None if they have not arrived."""
        buffer = self._buffer
        first, length = buffer[0], buffer[1] & ~MASKED
        opcode, start = first & 0xF, 6
        if first & 0x70 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG) or not buffer[1] & MASKED:
            raise Violation(PROTOCOL_ERROR)
        if opcode >= CLOSE and (length > 125 or not first & FINAL):
            raise Violation(PROTOCOL_ERROR)
        if opcode < CLOSE and (opcode == CONTINUATION) == (self._fragments is None):
            raise Violation(PROTOCOL_ERROR)
        if length > 125:
            size, least = (2, 126) if length == 126 else (8, 2**16)
            if len(buffer) < 2 + size:
                return None
            length = int.from_bytes(buffer[2 : 2 + size], "big")
            if length < least or length >= 2**63:
                raise Violation(PROTOCOL_ERROR)
            start += size
        if opcode < CLOSE and length + len(self._fragments or b"") > LARGEST:
            raise Violation(TOO_BIG)
        return first, start, length

    def _frame(self, opcode: int, payload: bytes, *, final: bool) -> Frame:
        if opcode >= CLOSE:
            return Frame(opcode, payload)
        if self._fragments is None:
            self._fragments = bytearray()
            self._text = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        self._fragments += payload
        if self._text is not None:
            try:
                self._text.decode(payload, final)
            except UnicodeDecodeError:
                raise Violation(BAD_DATA) from None
        if not final:
            return Frame(opcode, payload)
        message = bytes(self._fragments)
        self._fragments = None
        return Frame(opcode, payload, message if self._text is None else message.decode())


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")


def close_code(payload: bytes) -> int:
    """The code in the payload of a client's close frame, ``NO_CODE`` if it is empty. Raises Violation."""
    if not payload:
        return NO_CODE
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or code not in CODES:
        raise Violation(PROTOCOL_ERROR)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(BAD_DATA) from None
    return code


def frame(opcode: int, payload: bytes) -> bytes:
    """A frame as a server sends it: whole, and not masked."""
    length = len(payload)
    if length < 126:
        return pack("!BB", FINAL | opcode, length) + payload
    if length < 2**16:
        return pack("!BBH", FINAL | opcode, 126, length) + payload
    return pack("!BBQ", FINAL | opcode, 127, length) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason.encode())


EMPTY_PING = frame(PING, b"")

"""RFC 6455 cases: what a client sends, and the exact frames that must follow.

Modelled on groups 1 to 7 and 10 of the Autobahn suite. The application echoes every message; ``WITHOUT_MESSAGES`` are
the cases for any application.
"""

from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import NamedTuple

from tests.asgi_server import RawClient, client_frame
from tests.timing import within

AT_ONCE = 1.0  # seconds, for each frame, and from the last one to the end of the connection

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL = 0x80
LARGEST = 4096  # bytes of a message
NORMAL, PROTOCOL_ERROR, BAD_DATA, POLICY, TOO_BIG = 1000, 1002, 1007, 1008, 1009

Frame = tuple[int, bytes]  # the server's: its first byte and its payload


class Step(NamedTuple):
    """What the client sends, and every frame it must receive before it continues."""

    sent: bytes
    answers: list[Frame]


class Case(NamedTuple):
    """One connection, from the handshake to the end; the last frame is always a close."""

    what: str
    steps: list[Step]


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0) -> bytes:
    return client_frame((FINAL if final else 0) | reserved << 4 | opcode, payload)


def closing(code: int | None, reason: bytes = b"") -> bytes:
    """A close frame's payload."""
    return b"" if code is None else code.to_bytes(2, "big") + reason


def reply(opcode: int, payload: bytes = b"") -> Frame:
    return FINAL | opcode, payload


def stays_open(what: str, sent: bytes, *answers: Frame) -> Case:
    """The frames arrive and the connection stays open: it answers a close."""
    return Case(what, [Step(sent, list(answers)), Step(frame(CLOSE, closing(NORMAL)), [reply(CLOSE, closing(NORMAL))])])


def fails(what: str, code: int, sent: bytes, *answers: Frame) -> Case:
    return Case(what, [Step(sent, [*answers, reply(CLOSE, closing(code))])])


def pieces(payload: bytes, size: int, opcode: int = TEXT) -> list[bytes]:
    """A message in fragments of ``size`` bytes."""
    services = [payload[start : start + size] for start in range(0, len(payload), size)]
    last = len(services) - 1
    return [
        frame(CONTINUATION if number else opcode, part, final=number == last) for number, part in enumerate(services)
    ]


def framing() -> Iterator[Case]:
    """Autobahn's group 1, and frame headers."""
    for size in (0, 1, 125, 126, 127, 128, LARGEST):
        yield stays_open(f"text of {size}", frame(TEXT, b"*" * size), reply(TEXT, b"*" * size))
        yield stays_open(f"binary of {size}", frame(BINARY, b"\xfe" * size), reply(BINARY, b"\xfe" * size))
    for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        yield stays_open(f"masked by {mask!r}", client_frame(0x81, b"1.5\r\n", mask), reply(TEXT, b"1.5\r\n"))
    yield fails("length of 125 in two bytes", PROTOCOL_ERROR, b"\x81\xfe\x00\x7d")
    yield fails("length of 65535 in eight bytes", PROTOCOL_ERROR, b"\x81\xff" + (65535).to_bytes(8, "big"))
    yield fails("length with its highest bit set", PROTOCOL_ERROR, b"\x81\xff" + (2**63).to_bytes(8, "big"))
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
        yield fails(f"unmasked frame, opcode {opcode:x}", PROTOCOL_ERROR, bytes([FINAL | opcode, 2]) + b"\x03\xe8")


def reserved() -> Iterator[Case]:
    """Groups 3 and 4: reserved bits and opcodes."""
    for bits in range(1, 8):
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
            yield fails(f"reserved bits {bits}, opcode {opcode:x}", PROTOCOL_ERROR, frame(opcode, b"", reserved=bits))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield fails(f"opcode {opcode:x}", PROTOCOL_ERROR, frame(opcode))
        yield fails(f"opcode {opcode:x} with a payload", PROTOCOL_ERROR, frame(opcode, b"x"))
    yield Case(
        "reserved bits after a text",
        [
            Step(frame(TEXT, b"1"), [reply(TEXT, b"1")]),
            Step(frame(TEXT, b"2", reserved=1) + frame(PING), [reply(CLOSE, closing(PROTOCOL_ERROR))]),
        ],
    )


def control() -> Iterator[Case]:
    """Group 2, and the rules for control frames."""
    for payload in (b"", b"hello", b"\x00\xff\xfe\xfd", b"x" * 125):
        yield stays_open(f"ping with {len(payload)} bytes", frame(PING, payload), reply(PONG, payload))
        yield stays_open(f"unsolicited pong, {len(payload)} bytes", frame(PONG, payload))
    yield stays_open("pong, then ping", frame(PONG, b"x") + frame(PING, b"y"), reply(PONG, b"y"))
    pings = [b"%d" % number for number in range(10)]
    yield stays_open("ten pings", b"".join(frame(PING, each) for each in pings), *[reply(PONG, each) for each in pings])
    for opcode in (CLOSE, PING, PONG):
        yield fails(f"control frame {opcode:x} of 126 bytes", PROTOCOL_ERROR, bytes([FINAL | opcode, 0xFE]) + b"\0\x7e")
        yield fails(f"control frame {opcode:x} in eight bytes", PROTOCOL_ERROR, bytes([FINAL | opcode, 0xFF]))
        yield fails(f"control frame {opcode:x} in fragments", PROTOCOL_ERROR, frame(opcode, final=False))


def fragments() -> Iterator[Case]:
    """Groups 5 and 10."""
    for opcode in (TEXT, BINARY):
        for size in (1, 7, 10):
            sent = b"".join(pieces(b"fragment" * 2, size, opcode))
            yield stays_open(f"fragments of {size}, opcode {opcode}", sent, reply(opcode, b"fragment" * 2))
        sent = b"".join(pieces(b"*" * LARGEST, 1300, opcode))
        yield stays_open(f"a large message in fragments, opcode {opcode}", sent, reply(opcode, b"*" * LARGEST))
    empty = frame(TEXT, final=False) + frame(CONTINUATION, final=False)
    yield stays_open("empty fragments", empty + frame(CONTINUATION), reply(TEXT))
    yield stays_open("empty fragments about one", empty + frame(CONTINUATION, b"x"), reply(TEXT, b"x"))
    first, *middle, last = pieces(b"abcdef", 2)
    pinged = first + frame(PING, b"1") + b"".join(middle) + frame(PONG) + frame(PING, b"2") + last
    answers = reply(PONG, b"1"), reply(PONG, b"2"), reply(TEXT, b"abcdef")
    yield stays_open("control frames between fragments", pinged, *answers)
    one = b"".join(pieces(b"one", 1))
    yield stays_open("two messages in fragments", one + one, reply(TEXT, b"one"), reply(TEXT, b"one"))
    for final in (True, False):
        rest = frame(CONTINUATION, b"x", final=final)
        yield fails(f"continuation of nothing, final {final}", PROTOCOL_ERROR, rest)
        for opcode in (TEXT, BINARY):
            inside = first + frame(opcode, b"x", final=final)
            yield fails(f"message {opcode} inside a message, final {final}", PROTOCOL_ERROR, inside)
    yield Case(
        "continuation of a message that was over",
        [
            Step(first + last, [reply(TEXT, b"abef")]),
            Step(last, [reply(CLOSE, closing(PROTOCOL_ERROR))]),
        ],
    )


def sizes() -> Iterator[Case]:
    """Messages over the limit: closed as soon as a header announces them, not at their last byte."""
    for opcode in (TEXT, BINARY):
        head = bytes([FINAL | opcode])
        yield fails(f"one frame too long, opcode {opcode}", TOO_BIG, head + b"\xfe" + b"\x10\x01" + b"mask" + b"12345")
        yield fails(f"one of 65536, opcode {opcode}", TOO_BIG, head + b"\xff" + (2**16).to_bytes(8, "big") + b"mask")
        yield fails(f"one of 2^62, opcode {opcode}", TOO_BIG, head + b"\xff" + (2**62).to_bytes(8, "big") + b"mask")
        services = pieces(b"*" * (LARGEST + 1), 1024, opcode)
        yield fails(f"fragments too long, opcode {opcode}", TOO_BIG, b"".join(services))
        yield fails(f"endless fragments, opcode {opcode}", TOO_BIG, b"".join([services[0], *services[1:2] * 4]))
    wide = "€".encode() * (LARGEST // 3)
    yield stays_open("a large message of wide characters", frame(TEXT, wide), reply(TEXT, wide))
    yield fails("fragments of wide characters too long", TOO_BIG, b"".join(pieces("€".encode() * 1366, 300)))
    full = frame(TEXT, b"*" * LARGEST, final=False) + frame(PING, b"x" * 125) + frame(CONTINUATION)
    yield stays_open("a ping inside a full message", full, reply(PONG, b"x" * 125), reply(TEXT, b"*" * LARGEST))


VALID_TEXTS = [
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    *map(chr, (0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFF, 0x10FFFF)),
]
INVALID_TEXTS = [
    *(b"\x80", b"\xbf", b"\x80\xbf", b"a\x80b"),  # a continuation of nothing
    *(b"\xc3\x28", b"\xe2\x28\xa1", b"\xe2\x82\x28", b"\xf0\x28\x8c\xbc", b"\xf0\x90\x28\xbc"),  # too few
    *(b"\xc0\x80", b"\xc1\xbf", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf"),  # too long forms
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80"),  # surrogates
    *(b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfc", b"\xfe", b"\xff"),  # past the last
]
CUT_TEXTS = [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", "κόσμε".encode()[:-1]]


def utf_8() -> Iterator[Case]:
    """Group 6."""
    for text in VALID_TEXTS:
        payload = text.encode()
        yield stays_open(f"text {text!r}", frame(TEXT, payload), reply(TEXT, payload))
        if 1 < len(payload) <= 20:
            yield stays_open(f"text {text!r} cut anywhere", b"".join(pieces(payload, 1)), reply(TEXT, payload))
    for payload in INVALID_TEXTS:
        yield fails(f"bad text {payload!r}", BAD_DATA, frame(TEXT, b"ok " + payload))
        yield fails(f"bad text {payload!r}, not final", BAD_DATA, frame(TEXT, payload, final=False))
        yield stays_open(f"no text {payload!r}", frame(BINARY, payload), reply(BINARY, payload))
    for payload in CUT_TEXTS:
        yield fails(f"cut text {payload!r}", BAD_DATA, frame(TEXT, payload))
        yield fails(f"cut text {payload!r} in fragments", BAD_DATA, b"".join(pieces(b"ok" + payload, 2)))
    ping = frame(PING, b"\xff")
    halves = frame(TEXT, b"\xe2\x82", final=False) + ping + frame(CONTINUATION, b"\xac")
    yield stays_open("a character about a ping", halves, reply(PONG, b"\xff"), reply(TEXT, "€".encode()))
    bad = frame(TEXT, b"\xe2\x82", final=False) + frame(CONTINUATION, b"\x28")
    yield fails("bad text over two fragments", BAD_DATA, bad)


CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
NO_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def closes() -> Iterator[Case]:
    """Group 7."""
    for code in (None, *CODES):
        payload = closing(code)
        yield Case(f"close {code}", [Step(frame(CLOSE, payload), [reply(CLOSE, payload)])])
    for reason in (b"bye", "κόσμε".encode(), b"*" * 123):
        payload = closing(NORMAL, reason)
        yield Case(f"close with {len(reason)} bytes", [Step(frame(CLOSE, payload), [reply(CLOSE, payload)])])
    for code in NO_CODES:
        yield fails(f"close {code}", PROTOCOL_ERROR, frame(CLOSE, closing(code)))
        yield fails(f"close {code} with a reason", PROTOCOL_ERROR, frame(CLOSE, closing(code, b"bye")))
    yield fails("close of one byte", PROTOCOL_ERROR, frame(CLOSE, b"\x03"))
    yield fails("close with a reason too long", PROTOCOL_ERROR, frame(CLOSE, closing(NORMAL, b"*" * 124)))
    for payload in (b"\xff", b"\xed\xa0\x80", b"\xe2\x82"):
        yield fails(f"close with bad text {payload!r}", BAD_DATA, frame(CLOSE, closing(NORMAL, payload)))
    answer = reply(CLOSE, closing(NORMAL))
    bye = frame(CLOSE, closing(NORMAL))
    for what, more in {"close": bye, "text": frame(TEXT, b"x"), "ping": frame(PING), "nonsense": b"\xff\xff"}.items():
        yield Case(f"close, then {what}", [Step(bye + more, [answer])])
    inside = frame(TEXT, b"x", final=False) + bye + frame(CONTINUATION, b"y")
    yield Case("close inside a message", [Step(inside, [answer])])


GROUPS = (framing, reserved, control, fragments, sizes, utf_8, closes)
CASES = list(chain.from_iterable(group() for group in GROUPS))
WITHOUT_MESSAGES = [
    case for case in CASES if not any(first & 0xF in (TEXT, BINARY) for step in case.steps for first, _ in step.answers)
]

HUNDRED = b"".join(pieces(b"*" * 100, 1))
PINGS = frame(PING, b"x") * 100

# More frames than a client may send, but well-formed.
MANY = [
    stays_open("a hundred fragments", HUNDRED, reply(TEXT, b"*" * 100)),
    stays_open(
        "a hundred fragments of wide characters", b"".join(pieces("€".encode() * 33, 1)), reply(TEXT, "€".encode() * 33)
    ),
    stays_open("a hundred pings", PINGS, *[reply(PONG, b"x")] * 100),
    stays_open("a hundred pongs", frame(PONG) * 100),
    stays_open("a hundred messages", frame(TEXT, b"1") * 100, *[reply(TEXT, b"1")] * 100),
]
TOO_MANY = [
    fails("fragments", POLICY, b"".join(pieces(b"*" * 22, 1)[:21])),
    fails("empty fragments", POLICY, frame(TEXT, final=False) + frame(CONTINUATION, final=False) * 20),
    fails("pings", POLICY, frame(PING) * 21, *[reply(PONG)] * 20),
    fails("pongs", POLICY, frame(PONG) * 21),
    Case("messages", [Step(frame(TEXT, b"1"), [reply(TEXT, b"1")])] * 20 + fails("", POLICY, frame(TEXT, b"1")).steps),
    Case(
        "messages, pongs and fragments",
        [
            Step(frame(TEXT, b"1") + frame(PONG) * 10, [reply(TEXT, b"1")]),
            Step(b"".join(pieces(b"*" * 11, 1)[:10]), [reply(CLOSE, closing(POLICY))]),
        ],
    ),
    stays_open("twenty, and a close, are not too many", frame(PING) * 20, *[reply(PONG)] * 20),
]


async def play(case: Case, client: RawClient, say: Callable[[RawClient, bytes], Awaitable[None]]) -> None:
    """Play the case on a connection past its handshake, which must then be closed."""
    for sent, answers in case.steps:
        await say(client, sent)
        async with within(AT_ONCE):
            assert [await client.frame() for _ in answers] == answers
    async with within(AT_ONCE):
        assert await client.reader.read() == b""

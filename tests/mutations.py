"""Mutated handshakes and frames: valid ones, changed in several places by the seed.

The same ``Random`` gives the same bytes. See also: ``fuzz.py``, which sends them.
"""

from collections.abc import Callable
from random import Random

from tests.asgi_server import client_frame

Header = tuple[bytes, bytes]

METHODS = [b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"PRI", b"get", b"G\xffT", b"PUT", b""]
TARGETS = [
    *(b"/notifications?since=0", b"/notifications?wait=2", b"/notifications?since=nan", b"/notifications?name=%ff"),
    *(b"/", b"/healthz", b"/readyz", b"/auth/login", b"/messages", b"/user/bob", b"/static/../x", b"/openapi.json"),
    *(b"//notifications", b"/notifications/", b"/%00%ff", b"/" + b"x" * 9000, b"*", b"notifications", b"/\xff", b""),
    *(b"http://127.0.0.1/notifications", b"http://evil.example/notifications", b"http://[::/", b"127.0.0.1:80"),
]
VERSIONS = [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1.10", b"http/1.1", b"HTTP", b""]
VALUES = {
    b"Host": [b"evil.example", b"127.0.0.1:99999", b"", b"[::", b"\xff", b"127.0.0.1, evil.example", b"a" * 5000],
    b"Connection": [
        b"close",
        b"keep-alive",
        b"upgrade, close",
        b"Upgrade, \xff",
        b",,",
        b"",
        b"Upgrade, HTTP2-Settings",
    ],
    b"Upgrade": [b"h2c", b"websocket, h2c", b"WebSocket/13", b"", b"\xff", b"TLS/1.0", b"http/2.0"],
    b"Sec-WebSocket-Key": [b"", b"x", b"\xff" * 24, b"=" * 24, b"dGhlIHNhbXBsZSBub25j", b"A" * 9000, b"a b"],
    b"Sec-WebSocket-Version": [b"", b"8", b"0", b"13, 8", b"-13", b"13.0", b"\xff", b"1" * 5000],
    b"Sec-WebSocket-Extensions": [
        *(b"permessage-deflate", b"permessage-deflate; client_max_window_bits=abc", b"x-webkit-deflate-frame"),
        *(b";;;,,,===", b'permessage-deflate; a="', b"\xff\xfe", b"permessage-deflate, " * 300, b""),
    ],
    b"Sec-WebSocket-Protocol": [b"chat", b",,,", b"\xff", b"", b"a" * 5000, b"chat, chat", b"graphql-ws"],
    b"Origin": [b"null", b"http://evil.example", b"", b"\xff", b"http://127.0.0.1.evil.example", b"http://127.0.0.1 x"],
    b"Cookie": [b"", b"=", b"\xff", b"microblog_session=", b"microblog_session=1.x", b";" * 3000, b"a" * 9000],
    b"Content-Length": [b"0", b"5", b"-1", b"+5", b"0x5", b"5, 5", b"5, 6", b"9" * 40, b"\xff", b"", b"1e3"],
    b"Transfer-Encoding": [
        b"chunked",
        b"gzip, chunked",
        b"chunked, identity",
        b"xchunked",
        b"\x0bchunked",
        b"identity",
    ],
    b"Expect": [b"100-continue", b"200-ok", b"\xff"],
    b"HTTP2-Settings": [b"AAMAAABkAARAAAAAAAIAAAAA", b"\xff", b""],
    b"Content-Type": [b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=", b"\xff; charset=\xff"],
    b"Accept-Language": [b"\xff", b"es;q=x", b"*;q=2," * 300],
    b"Sec-Fetch-Site": [b"cross-site", b"\xff", b""],
}
BODIES = [
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"zz\r\n",
    b"\xff" * 500,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 5,
]


def handshake(random: Random, headers: list[Header]) -> bytes:
    """A request for notifications with those headers, possibly changed, and what might follow it."""
    return _mutated(random, [b"GET", b"/notifications", b"HTTP/1.1"], headers, [b"", b"", *BODIES, frames(random)])


def send(random: Random, headers: list[Header], form: bytes) -> bytes:
    """A send with those headers and that form, possibly changed."""
    body = random.choice([form, form, _damaged(random, form), *BODIES])
    more = [(b"Content-Type", b"application/x-www-form-urlencoded"), (b"Content-Length", b"%d" % len(body))]
    return _mutated(random, [b"POST", b"/send_message/alice", b"HTTP/1.1"], [*headers, *more], [body])


def _mutated(random: Random, start: list[bytes], headers: list[Header], following: list[bytes]) -> bytes:
    headers = list(headers)
    for bend in random.choices(
        [_method, _target, _version, *[_value] * 6, *[_more] * 3, _twice, _missing], k=random.randint(0, 3)
    ):
        bend(random, start, headers)
    random.shuffle(headers)
    lines = [b" ".join(start), *[name + b": " + value for name, value in headers], b"", b""]
    request = random.choice([b"\r\n"] * 9 + [b"\n"]).join(lines) + random.choice(following)
    return _damaged(random, request) if random.random() < 0.2 else request


def _method(random: Random, start: list[bytes], _: list[Header]) -> None:
    start[0] = random.choice(METHODS)


def _target(random: Random, start: list[bytes], _: list[Header]) -> None:
    start[1] = random.choice(TARGETS)


def _version(random: Random, start: list[bytes], _: list[Header]) -> None:
    start[2] = random.choice(VERSIONS)


def _value(random: Random, _: list[bytes], headers: list[Header]) -> None:
    """Another value for an existing header."""
    place = random.randrange(len(headers))
    name, value = headers[place]
    headers[place] = name, random.choice([*VALUES.get(name, []), _damaged(random, value)])


def _more(random: Random, _: list[bytes], headers: list[Header]) -> None:
    name = random.choice(list(VALUES))
    headers.append((name, random.choice(VALUES[name])))


def _twice(random: Random, _: list[bytes], headers: list[Header]) -> None:
    headers.append(random.choice(headers))


def _missing(random: Random, _: list[bytes], headers: list[Header]) -> None:
    headers.pop(random.randrange(len(headers)))


TEXTS = [b"1", b"1.5", b"[]", b"", b"NaN", "κόσμε".encode(), b"\xe2\x82", b"\xed\xa0\x80", b"1" * 126, b"1".rjust(4096)]


def frames(random: Random) -> bytes:
    """Some frames: mostly acknowledgements, mostly changed."""
    services = [random.choice(KINDS)(random) for _ in range(random.randint(1, 6))]
    for bend in random.choices([_shuffled, _repeated, _repeated, _bent], k=random.randint(0, 2)):
        services = bend(random, services)
    sent = b"".join(services)
    return _damaged(random, sent) if random.random() < 0.25 else sent


def _text(random: Random) -> bytes:
    return client_frame(random.choice([0x81, 0x81, 0x82]), random.choice(TEXTS), random.randbytes(4))


def _number(random: Random) -> bytes:
    return client_frame(0x81, b"%d.%d" % (random.randrange(10**9), random.randrange(10**6)), random.randbytes(4))


def _fragments(random: Random) -> bytes:
    firsts = [random.choice([0x01, 0x01, 0x02]), *random.choices([0x00, 0x00, 0x89], k=random.randint(0, 2)), 0x80]
    return b"".join(client_frame(first, random.choice(TEXTS), random.randbytes(4)) for first in firsts)


def _control(random: Random) -> bytes:
    return client_frame(random.choice([0x89, 0x8A]), random.randbytes(random.choice([0, 1, 125, 125, 125, 126])))


def _close(random: Random) -> bytes:
    code = random.choice([0, 999, 1000, 1001, 1005, 1006, 1012, 2999, 3000, 4999, 5000, 65535])
    reason = random.choice([b"", b"bye", b"\xff", b"x" * 123, b"x" * 124])
    return client_frame(0x88, random.choice([b"", b"\x03", code.to_bytes(2, "big") + reason]))


def _any(random: Random) -> bytes:
    return client_frame(random.randrange(256), random.randbytes(random.choice([0, 1, 5, 127])))


KINDS: list[Callable[[Random], bytes]] = [
    *[_number] * 9,
    *[_text] * 3,
    *[_fragments] * 3,
    *[_control] * 3,
    _close,
    _any,
]


def _shuffled(random: Random, services: list[bytes]) -> list[bytes]:
    return random.sample(services, len(services))


def _repeated(random: Random, services: list[bytes]) -> list[bytes]:
    return services + [random.choice(services)] * random.choice([1, 30])


def _bent(random: Random, services: list[bytes]) -> list[bytes]:
    """One frame with a wrong header: unmasked, reserved bits, a wrong length."""
    place = random.randrange(len(services))
    head = random.choice(
        [
            bytes([services[place][0] | random.randrange(1, 8) << 4, services[place][1]]),
            bytes([services[place][0], services[place][1] & 0x7F]),
            bytes([services[place][0], random.randrange(256)]),
            bytes([services[place][0], 0xFF]) + random.choice([2**62, 2**63, 2**16, 5]).to_bytes(8, "big"),
        ]
    )
    return [*services[:place], head + services[place][2:], *services[place + 1 :]]


def _damaged(random: Random, data: bytes) -> bytes:
    """Bits flipped, or pieces cut, removed, repeated or inserted."""
    place = random.randrange(len(data) + 1)
    rest = place + random.randint(0, 9)
    match random.randrange(5):
        case 0:
            flipped = bytearray(data)
            for where in random.sample(range(len(data)), min(len(data), random.randint(1, 4))):
                flipped[where] ^= 1 << random.randrange(8)
            return bytes(flipped)
        case 1:
            return data[:place]
        case 2:
            return data[:place] + data[rest:]
        case 3:
            return data[:rest] + data[place:]
        case _:
            return data[:place] + random.randbytes(random.randint(1, 9)) + data[place:]

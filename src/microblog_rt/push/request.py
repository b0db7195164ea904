"""The head of a request that the edge serves, parsed by httptools: for ``/notifications``, or with a short body."""

import asyncio
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, NamedTuple

import httptools

from microblog_rt.web import direct
from microblog_rt.web.admission import PATH

LONGEST_HEAD = 16384  # bytes; the same as in hypercorn.toml

METHODS = b"GET", b"HEAD"
LONGEST_BODY = 32768  # bytes of a body that is read here
LENGTH = re.compile(rb"[0-9]{1,5}")

# A request line, and lines of printable characters that end in CRLF. Hypercorn refuses anything else.
CLEAN = re.compile(rb"[A-Z]+ [\x21-\x7e]+ HTTP/1\.[01]\r\n(?:[\t\x20-\x7e\x80-\xff]+\r\n)+\r\n")
REQUEST_LINE = rb"([A-Z]+) %s(?:\?([\x21\x22\x24-\x7e]*))? HTTP/1\.1"
BARE_LF = re.compile(rb"(?<!\r)\n")

ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)  # the form of a target that a client sends to a proxy

# Requests with these have a body, or expect a response before one.
WITH_BODY = {b"content-length", b"transfer-encoding", b"expect"}

HANDSHAKE_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = b"13"

Headers = list[tuple[bytes, bytes]]


class Head(NamedTuple):
    """A request's head. ``websocket``: it is a WebSocket handshake; ``key`` then is its key, None if it is invalid.

    ``length``: of the body, None for a request that has none.
    """

    method: bytes
    path: str
    query_string: bytes
    headers: Headers
    keep_alive: bool
    websocket: bool
    key: bytes | None
    length: int | None


NO_HEAD = Head(b"", "", b"", [], False, False, None, None)


class Collector:
    """What httptools calls while it parses."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: Headers = []

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))


class Targets:
    """Which requests are served here: those for ``/notifications``, and some with a short body, below a path prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._path = (prefix + PATH).encode()
        self._beginnings = [method + b" " + self._path for method in METHODS]
        self._direct = tuple(b"POST " + (prefix + each).encode() for each in direct.PREFIXES)
        self._request_line = re.compile(REQUEST_LINE % re.escape(self._path))

    def is_for_us(self, received: bytes) -> bool | None:
        """Whether ``received`` begins a request that is served here; None if it may still."""
        if received.startswith(b"P"):
            begun = any(each.startswith(received) for each in self._direct)
            return received.startswith(self._direct) or (None if begun else False)
        for beginning in self._beginnings:
            length = len(beginning)
            if received.startswith(beginning):
                return None if len(received) == length else received[length : length + 1] in (b" ", b"?")
            if beginning.startswith(received[:length]):
                return None
        return self._is_absolute(received) if received[:8].upper().startswith((b"GET H", b"HEAD H")) else False

    def _is_absolute(self, received: bytes) -> bool | None:
        """The same for a target in absolute form."""
        target, space, _ = received.partition(b" ")[2].partition(b" ")
        if not space:
            return None
        found = ABSOLUTE.fullmatch(target)
        return found is not None and found[2].partition(b"?")[0] == self._path

    def next_head(self, received: bytearray) -> bytes | None:
        """The head of the request that ``received`` begins with; None if it is incomplete, b"" if it is not for us."""
        for_us = self.is_for_us(bytes(received[:LONGEST_HEAD]))
        end = received.find(b"\r\n\r\n") + 4 if for_us else 3
        if for_us is False or max(end, len(received) if end < 4 else 0) > LONGEST_HEAD:
            return b""
        if end < 4:
            return b"" if BARE_LF.search(received) else None
        return bytes(received[:end])

    def repeated(self, last: Head, last_text: bytes, text: bytes) -> Head | None:
        """The head in ``text`` if at most its query differs from that of ``last``; else None.

        Long polls differ by their cursor. To parse and check each anew would take half of its time (measured).
        """
        if text == last_text:
            return last
        line, _, fields = text.partition(b"\r\n")
        found = self._request_line.fullmatch(line)
        if found is None or found[1] != last.method or last_text.partition(b"\r\n")[2] != fields:
            return None
        return last._replace(query_string=found[2] or b"")

    def parse(self, head: bytes) -> Head | None:
        """The head of a request, its path without the prefix; None if Hypercorn must answer it.

        Hypercorn explains what is wrong with a request.
        """
        if not CLEAN.fullmatch(head):
            return None
        collector = Collector()
        parser = httptools.HttpRequestParser(collector)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            return None
        headers = collector.headers
        method = parser.get_method()
        length = _length(headers) if method == b"POST" else None
        has_body = method == b"POST" or any(map(_has_body, headers))
        if parser.get_http_version() != "1.1" or (length is None and has_body):
            return None
        hosts = [value for name, value in headers if name == b"host"]
        target = origin_form(collector.target, hosts)
        if target is None or len(hosts) != 1:
            return None
        options = _options(headers)
        websocket = method == b"GET" and b"upgrade" in options and _upgrades_to_websocket(headers)
        path, _, query_string = target.partition(b"?")
        return Head(
            method,
            path.decode("ascii").removeprefix(self._prefix),
            query_string,
            headers,
            # A client that takes this server for a proxy may send requests for other sites on this connection.
            b"close" not in options and target == collector.target,
            websocket,
            _key(headers) if websocket else None,
            length,
        )


def origin_form(target: bytes, hosts: Sequence[bytes]) -> bytes | None:
    """Path and query of a target in absolute form; None if it names another host than ``Host`` does."""
    found = ABSOLUTE.fullmatch(target)
    if found is None:
        return target
    if [host.lower() for host in hosts] != [found[1].lower()]:
        return None
    return found[2] if found[2].startswith(b"/") else b"/" + found[2]


def accept_token(key: bytes) -> bytes:
    """The ``Sec-WebSocket-Accept`` for a key (RFC 6455, 4.2.2)."""
    return b64encode(sha1(key + HANDSHAKE_GUID, usedforsecurity=False).digest())


def _has_body(field: tuple[bytes, bytes]) -> bool:
    return field[0] in WITH_BODY and field != (b"content-length", b"0")


def _length(headers: Headers) -> int | None:
    """The length of a body that is served here; None for every other one."""
    sent = [(name, value) for name, value in headers if name in WITH_BODY]
    if len(sent) != 1 or sent[0][0] != b"content-length" or not LENGTH.fullmatch(sent[0][1]):
        return None
    length = int(sent[0][1])
    return length if length <= LONGEST_BODY else None


def _options(headers: Headers) -> set[bytes]:
    """The options of ``Connection``."""
    return {option.strip().lower() for name, value in headers if name == b"connection" for option in value.split(b",")}


def _upgrades_to_websocket(headers: Headers) -> bool:
    upgrades = [value.strip().lower() for name, value in headers if name == b"upgrade"]
    return upgrades[-1:] == [b"websocket"]


def _key(headers: Headers) -> bytes | None:
    """The key of a handshake that satisfies RFC 6455, 4.2.1; None for any other."""
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    versions = [value for name, value in headers if name == b"sec-websocket-version"]
    if len(keys) != 1 or versions != [VERSION]:
        return None
    try:
        return keys[0] if len(b64decode(keys[0], validate=True)) == 16 else None
    except ValueError:
        return None


def scope(head: Head, transport: asyncio.BaseTransport) -> dict[str, Any]:
    """The request as ASGI describes it."""
    return {
        "path": head.path,
        "query_string": head.query_string,
        "headers": head.headers,
        "client": _pair(transport.get_extra_info("peername")),
        "server": _pair(transport.get_extra_info("sockname")),
    }


def _pair(name: Any) -> tuple[str, int] | None:
    """Host and port of a socket's name; None on a unix socket."""
    return (name[0], name[1]) if isinstance(name, tuple) else None

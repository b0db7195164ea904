"""Thousands of tabs: WebSockets with a browser's handshake that count the frames they receive.

Without a client library or a transport of asyncio, whose cost per frame would dominate: the sockets are in one epoll,
which the event loop watches. A `Dialect` adapts them to a peer's protocol.
"""

import asyncio
import json
import select
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

from benchmarks.browser import HEADERS

AT_ONCE = 200
PATIENCE = 300.0  # seconds for all tabs to open, or to receive one event
PER_ADDRESS = 20_000  # connections from one loopback address; it has 28,000 ports

TEXT, PING = 0x81, 0x89
PONG = b"\x8a\x80\0\0\0\0"  # the servers' pings are empty
HEARTBEAT = b"[]"


def masked(text: bytes) -> bytes:
    """A short text frame of a client, with a mask of zeros."""
    assert len(text) < 126
    return bytes([TEXT, 0x80 | len(text)]) + bytes(4) + text


class Dialect(NamedTuple):
    """What tabs send to one kind of server.

    ``hello`` follows the handshake. A tab is open after ``greetings`` frames. ``replies`` are the frames that answer
    heartbeats, by their payload.
    """

    target: str
    hello: bytes
    greetings: int
    replies: Mapping[bytes, bytes]


OURS = Dialect("/notifications?since=0", b"", 1, {HEARTBEAT: masked(b"0")})

HANDSHAKE = (
    "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nOrigin: http://{host}\r\nSec-WebSocket-Version: 13\r\n"
    + "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    + "Cookie: {cookie}\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    "Sec-Fetch-Dest: websocket\r\nSec-Fetch-Mode: websocket\r\nSec-Fetch-Site: same-origin\r\n\r\n"
)


def handshake(port: int, cookie: str, dialect: Dialect = OURS) -> bytes:
    """The request of a browser that opens a WebSocket."""
    return HANDSHAKE.format(target=dialect.target, host=f"127.0.0.1:{port}", cookie=cookie).encode()


class Listening(Protocol):
    """A server; only its port is used."""

    @property
    def port(self) -> int: ...


class FrameCounter:
    """All tabs of one run, and the frames they have received since they were open; ``close`` it at the end."""

    def __init__(self, dialect: Dialect = OURS) -> None:
        self.dialect = dialect
        self.tabs: list[Tab] = []
        self.received = 0
        self.heartbeats = 0
        self.frames: Counter[bytes] = Counter()
        self._expected = 0
        self._reached = asyncio.Event()
        self._epoll = select.epoll()
        self._watched: dict[int, Tab] = {}

    def watch(self, descriptor: int, tab: "Tab") -> None:
        """Receive for ``tab`` from now on, until its socket is closed."""
        if not self._watched:
            asyncio.get_running_loop().add_reader(self._epoll, self._readable)
        self._watched[descriptor] = tab
        self._epoll.register(descriptor, select.EPOLLIN)

    def _readable(self) -> None:
        for descriptor, _ in self._epoll.poll(0, AT_ONCE):
            self._watched[descriptor].readable()

    def close(self) -> None:
        """Close every tab."""
        for tab in self.tabs:
            tab.close()
        if self._watched:
            asyncio.get_running_loop().remove_reader(self._epoll)
        self._epoll.close()

    def frame_received(self, payload: bytes) -> None:
        """Count one frame of one tab."""
        self.received += 1
        self.frames[payload] += 1
        if self.received >= self._expected:
            self._reached.set()

    async def until_received(self, more: int) -> None:
        """Wait for ``more`` frames in addition to those that earlier calls waited for."""
        self._expected += more
        if self.received < self._expected:
            self._reached.clear()
            async with asyncio.timeout(PATIENCE):
                await self._reached.wait()

    def restart(self) -> None:
        """Forget what was received."""
        self.received = self.heartbeats = self._expected = 0
        self.frames.clear()

    def notifications(self) -> int:
        """The number of notifications in the frames: that of the frames, unless some were conflated."""
        return sum(len(json.loads(payload)) * count for payload, count in self.frames.items())

    def check(self) -> None:
        """Raise AssertionError if a tab has been closed."""
        assert not any(tab.ended for tab in self.tabs), "the server has closed a tab"


class Tab:
    """One tab; ``opened`` is done once it is open. Acknowledges heartbeats like the script of the pages."""

    __slots__ = ("_buffer", "_greetings", "_observer", "_shaken", "_socket", "ended", "opened")

    def __init__(self, observer: FrameCounter, connected: socket.socket, opened: "asyncio.Future[None]") -> None:
        self._observer = observer
        self._socket = connected
        self._buffer = b""
        self._greetings = observer.dialect.greetings
        self._shaken = False
        self.ended = False
        self.opened: asyncio.Future[None] | None = opened

    def readable(self) -> None:
        """Receive what has arrived."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended(ConnectionError("closed before it was open"))
        elif self.opened is None and not self._buffer and data[0] == TEXT and data[1] + 2 == len(data):
            self._text_received(data[2:])  # nearly always: exactly one frame
        else:
            self._bytes_received(data)

    def close(self) -> None:
        """Close the connection without waiting."""
        self._socket.close()

    def _bytes_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._shaken and b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._handshake_answered(head)
        while self._shaken and (frame := _frame(self._buffer)):
            opcode, payload, self._buffer = frame
            self._frame_received(opcode, payload)

    def _handshake_answered(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 101 "):
            self._ended(ConnectionError(head.decode("latin-1")))
            return
        self._shaken = True
        if hello := self._observer.dialect.hello:
            self._socket.send(hello)
        self._check_opened()

    def _frame_received(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._socket.send(PONG)
        elif opcode != TEXT:
            self.ended = True
        elif self.opened is not None:
            self._greetings -= 1
            self._check_opened()
        else:
            self._text_received(payload)

    def _text_received(self, payload: bytes) -> None:
        if reply := self._observer.dialect.replies.get(payload):
            self._observer.heartbeats += 1
            self._socket.send(reply)
        else:
            self._observer.frame_received(payload)

    def _check_opened(self) -> None:
        if not self._greetings and self.opened is not None:
            self.opened.set_result(None)
            self.opened = None

    def _ended(self, error: Exception) -> None:
        self.ended = True
        self.close()
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(error)


@asynccontextmanager
async def tabs(
    server: Listening, cookies: Iterable[str], observer: FrameCounter | None = None
) -> AsyncIterator[FrameCounter]:
    """Open a tab for each of ``cookies``; closes them on exit."""
    observer = observer or FrameCounter()
    try:
        await open_tabs(server, cookies, observer)
        yield observer
        observer.check()
    finally:
        observer.close()


async def open_tabs(server: Listening, cookies: Iterable[str], observer: FrameCounter) -> None:
    """Open a tab for each of ``cookies``, in addition to those of ``observer``."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for number, cookie in enumerate(cookies, len(observer.tabs)):
            await slots.acquire()
            opening = group.create_task(open_tab(observer, server.port, cookie, 1 + number // PER_ADDRESS))
            opening.add_done_callback(lambda _: slots.release())


async def open_tab(observer: FrameCounter, port: int, cookie: str, address: int = 1) -> None:
    """Open one tab from the loopback address of that number; raises OSError if the server refuses it."""
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()
    connected = socket.socket()
    try:
        connected.setblocking(False)
        if address > 1:
            connected.bind((f"127.0.0.{address}", 0))
        await loop.sock_connect(connected, ("127.0.0.1", port))
        connected.send(handshake(port, cookie, observer.dialect))
        tab = Tab(observer, connected, opened)
        observer.watch(connected.fileno(), tab)
        await opened
    except BaseException:
        connected.close()
        raise
    observer.tabs.append(tab)


def _frame(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """The first frame's opcode (with FIN), its payload, and the rest; None while the frame is incomplete."""
    if len(buffer) < 2:
        return None
    start, size = 2, buffer[1]
    if size == 126:
        start, size = 4, int.from_bytes(buffer[2:4], "big")
    assert size < 65536, "a frame larger than any notification"
    end = start + size
    return (buffer[0], buffer[start:end], buffer[end:]) if len(buffer) >= end else None

"""Thousands of tabs: WebSockets with a browser's handshake that count the frames they receive.

Without a client library, whose cost per connection would dominate.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast

from tests.server_process import Server

from benchmarks.browser import HEADERS

AT_ONCE = 200
PATIENCE = 120.0  # seconds for all tabs to open, or to receive one event

TEXT, PING = 0x81, 0x89
PONG = b"\x8a\x80\0\0\0\0"  # the server's pings are empty
HEARTBEAT = b"[]"
ACKNOWLEDGEMENT = b"\x81\x81\0\0\0\x000"  # the cursor 0, with a mask of zeros

HANDSHAKE = (
    "GET /notifications?since=0 HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nOrigin: http://{host}\r\nSec-WebSocket-Version: 13\r\n"
    + "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    + "Cookie: {cookie}\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    "Sec-Fetch-Dest: websocket\r\nSec-Fetch-Mode: websocket\r\nSec-Fetch-Site: same-origin\r\n\r\n"
)


class FrameCounter:
    """All tabs of one run, and the frames they have received after their first ones."""

    def __init__(self) -> None:
        self.tabs: list[Tab] = []
        self.received = 0
        self.heartbeats = 0
        self.frames: Counter[bytes] = Counter()
        self._expected = 0
        self._reached = asyncio.Event()

    def frame_received(self, payload: bytes) -> None:
        """Count one frame of one tab."""
        if payload == HEARTBEAT:
            self.heartbeats += 1
            return
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

    def notifications(self) -> int:
        """The number of notifications in the frames: that of the frames, unless some were conflated."""
        return sum(len(json.loads(payload)) * count for payload, count in self.frames.items())

    def check(self) -> None:
        """Raise AssertionError if a tab has been closed."""
        assert not any(tab.ended for tab in self.tabs), "the server has closed a tab"


class Tab(asyncio.Protocol):
    """One tab; ``first`` is done after the first frame. Acknowledges heartbeats like the script of the pages."""

    __slots__ = ("_buffer", "_handshake", "_observer", "_open", "ended", "first", "transport")

    def __init__(self, observer: FrameCounter, handshake: bytes, first: "asyncio.Future[None]") -> None:
        self._observer = observer
        self._handshake = handshake
        self._buffer = b""
        self._open = self.ended = False
        self.first: asyncio.Future[None] | None = first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._handshake)
        self._handshake = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open and b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            _check_answer(head.decode("latin-1"))
            self._open = True
        while self._open and (frame := _frame(self._buffer)):
            opcode, payload, self._buffer = frame
            self._frame_received(opcode, payload)

    def _frame_received(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.transport.write(PONG)
        elif opcode != TEXT:
            self.ended = True
        elif self.first is not None:
            self.first.set_result(None)
            self.first = None
        else:
            self._observer.frame_received(payload)
            if payload == HEARTBEAT:
                self.transport.write(ACKNOWLEDGEMENT)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        if self.first is not None and not self.first.done():
            self.first.set_exception(error or ConnectionError("closed before the first frame"))


@asynccontextmanager
async def tabs(
    server: Server, cookies: Iterable[str], observer: FrameCounter | None = None
) -> AsyncIterator[FrameCounter]:
    """Open a tab for each of ``cookies`` and wait for their first frames; closes them on exit."""
    observer = observer or FrameCounter()
    slots = asyncio.Semaphore(AT_ONCE)
    try:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for cookie in cookies:
                group.create_task(_open(observer, server.port, cookie, slots))
        yield observer
        observer.check()
    finally:
        for tab in observer.tabs:
            tab.transport.abort()


async def _open(observer: FrameCounter, port: int, cookie: str, slots: asyncio.Semaphore) -> None:
    loop = asyncio.get_running_loop()
    handshake = HANDSHAKE.format(host=f"127.0.0.1:{port}", cookie=cookie).encode()
    first: asyncio.Future[None] = loop.create_future()
    async with slots:
        _, tab = await loop.create_connection(lambda: Tab(observer, handshake, first), "127.0.0.1", port)
        observer.tabs.append(tab)
        await first


def _check_answer(head: str) -> None:
    assert head.startswith("HTTP/1.1 101 "), head
    assert "sec-websocket-extensions" not in head.lower(), head


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

"""A proxy between browser and server that does to notifications what networks do.

Bytes pass unchanged, so Host and Origin are those of the proxy; only the heads of requests are looked at.
Not here: what a page makes of it.
"""

import asyncio
import contextlib
import re
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from tests.ports import free_port

HOST = "127.0.0.1"
PIECE = 65536
REFUSAL = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

KINDS = {
    "websocket": re.compile(rb"^upgrade: *websocket\r$", re.IGNORECASE | re.MULTILINE),
    "long poll": re.compile(rb"^GET /notifications\?\S*\bwait="),
    "held poll": re.compile(rb"^GET /notifications\?\S*\bwait=(?!0\b)"),
    "poll": re.compile(rb"^GET /notifications\?(?!\S*\bwait=)(?![^\0]*\r\nupgrade:)", re.IGNORECASE),
}
LENGTH = re.compile(rb"^content-length: *(\d+)\r$", re.IGNORECASE | re.MULTILINE)


class Ended(Exception):
    """One side is done with a connection."""


class Proxy:
    """Passes everything until told otherwise; what it is told holds from the next request on.

    ``refuses`` has the kinds that are answered 502; ``socket_life`` the seconds after which an open WebSocket
    is cut; ``mute`` lets a WebSocket open and passes nothing of what the server says then. ``passed``,
    ``refused`` and ``cut`` count, so that a test can show that what it needs has happened.
    """

    def __init__(self, upstream: int) -> None:
        self.refuses: set[str] = set()
        self.socket_life: float | None = None
        self.mute = False
        self.passed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.cut = 0
        self._upstream = upstream
        self._port = free_port()
        self._listening: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    async def up(self) -> None:
        """Listen; always at the same address."""
        self._listening = await asyncio.start_server(self._accept, HOST, self._port)

    async def down(self) -> None:
        """Stop listening and cut every connection."""
        if self._listening is None:
            return
        listening, self._listening = self._listening, None
        for each in listening.sockets:
            asyncio.get_running_loop().remove_reader(each)
        for _ in range(3):
            await asyncio.sleep(0)  # until whoever asyncio has accepted already has come to _accept
        listening.close()
        for browser in self._connections.values():
            browser.transport.abort()
        await asyncio.gather(*self._connections)
        await listening.wait_closed()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    def _accept(self, reader: StreamReader, browser: StreamWriter) -> None:
        if self._listening is None:
            browser.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, browser))
        self._connections[task] = browser
        task.add_done_callback(self._connections.pop)

    async def _serve(self, reader: StreamReader, browser: StreamWriter) -> None:
        async with _closing(browser):
            try:
                answers, server = await asyncio.open_connection(HOST, self._upstream)
            except OSError:
                browser.transport.abort()
                return
            async with _closing(server):
                await self._talk(Connection(reader, browser, answers, server))

    async def _talk(self, connection: "Connection") -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(connection))
                group.create_task(self._answers(connection))
        except* (Ended, OSError, asyncio.IncompleteReadError):
            pass

    async def _requests(self, connection: "Connection") -> None:
        while not connection.is_socket:
            head = await connection.reader.readuntil(b"\r\n\r\n")
            kinds = {kind for kind, pattern in KINDS.items() if pattern.search(head)}
            if refused := kinds & self.refuses:
                self.refused.update(refused)
                await _write(connection.browser, REFUSAL)
                raise Ended
            self.passed.update(kinds)
            connection.is_socket = "websocket" in kinds
            length = LENGTH.search(head)
            body = await connection.reader.readexactly(int(length[1])) if length else b""
            await _write(connection.server, head + body)
        while True:
            await _write(connection.server, await _read(connection.reader))

    async def _answers(self, connection: "Connection") -> None:
        while not connection.is_socket:
            piece = await _read(connection.answers)
            muted = connection.is_socket and self.mute
            await _write(connection.browser, _head(piece) if muted else piece)
        try:
            async with asyncio.timeout(self.socket_life):
                await self._frames(connection)
        except TimeoutError:
            self.cut += 1
            connection.browser.transport.abort()
            raise Ended from None

    async def _frames(self, connection: "Connection") -> None:
        while True:
            piece = await _read(connection.answers)
            if not self.mute:
                await _write(connection.browser, piece)


@dataclass
class Connection:
    """One of the browser's, and the one to the server that was opened for it."""

    reader: StreamReader
    browser: StreamWriter
    answers: StreamReader
    server: StreamWriter
    is_socket: bool = False


async def _read(reader: StreamReader) -> bytes:
    if piece := await reader.read(PIECE):
        return piece
    raise Ended


async def _write(writer: StreamWriter, piece: bytes) -> None:
    writer.write(piece)
    await writer.drain()


def _head(piece: bytes) -> bytes:
    return piece[: piece.index(b"\r\n\r\n") + 4]


@asynccontextmanager
async def _closing(writer: StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

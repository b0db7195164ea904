"""A proxy in front of a server that can refuse, cut and mute requests for notifications, refuse sends, lose responses.

It reads request heads only and forwards all bytes unchanged, so Host and Origin are those of the proxy.
"""

import asyncio
import contextlib
import re
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from tests.ports import free_port

HOST = "127.0.0.1"
CHUNK_SIZE = 65536
PAGE = b"<!doctype html><title>The network</title><p>Sign in to the network."

KINDS = {
    "websocket": re.compile(rb"^upgrade: *websocket\r$", re.IGNORECASE | re.MULTILINE),
    "long poll": re.compile(rb"^GET /notifications\?\S*\bwait="),
    "held poll": re.compile(rb"^GET /notifications\?\S*\bwait=(?!0\b)"),
    "send": re.compile(rb"^POST /send_message/"),
    "api": re.compile(rb"^(POST|PUT|DELETE) /api/"),
    "poll": re.compile(rb"^GET /notifications\?(?!\S*\bwait=)(?![^\0]*\r\nupgrade:)", re.IGNORECASE),
}
POLL_AFTER = re.compile(rb"(\r\npoll-after: )5(?=\r\n)", re.IGNORECASE)
LENGTH = re.compile(rb"^content-length: *(\d+)\r$", re.IGNORECASE | re.MULTILINE)


class Ended(Exception):
    """One side has closed the connection."""


class Proxy:
    """Forwards everything by default. Changed attributes apply from the next request on.

    ``refuses``: kinds of requests that get a page with the HTTP status ``refusal``. ``socket_life``: seconds after
    which a WebSocket is cut. ``mute``: WebSockets open, but frames of the server are dropped. ``delay``: seconds by
    which bytes are delayed in each direction. ``loses``: how many responses of the API to drop, with their connections.
    ``passed``, ``refused``, ``cut`` and ``lost`` are counters, with which a test checks its own preconditions;
    ``targets`` are those of all requests.
    """

    def __init__(self, upstream: int) -> None:
        self.refuses: set[str] = set()
        self.refusal = HTTPStatus.BAD_GATEWAY
        self.socket_life: float | None = None
        self.mute = False
        self.delay = 0.0
        self.poll_after: bytes | None = None
        self.passed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.loses = 0
        self.cut = 0
        self.lost = 0
        self.targets: list[str] = []
        self._upstream = upstream
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    async def up(self) -> None:
        """Start listening, always on the same port."""
        self._server = await asyncio.start_server(self._accept, HOST, self._port)

    async def down(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is None:
            return
        server, self._server = self._server, None
        for each in server.sockets:
            asyncio.get_running_loop().remove_reader(each)
        for _ in range(3):
            await asyncio.sleep(0)  # until _accept has been called for connections that asyncio has already accepted
        server.close()
        for browser in self._connections.values():
            browser.transport.abort()
        await asyncio.gather(*self._connections)
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    def _accept(self, reader: StreamReader, browser: StreamWriter) -> None:
        if self._server is None:
            browser.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, browser))
        self._connections[task] = browser
        task.add_done_callback(self._connections.pop)

    async def _serve(self, reader: StreamReader, browser: StreamWriter) -> None:
        async with _closing(browser):
            try:
                responses, server = await asyncio.open_connection(HOST, self._upstream)
            except OSError:
                browser.transport.abort()
                return
            async with _closing(server):
                await self._forward(Connection(reader, browser, responses, server))

    async def _forward(self, connection: "Connection") -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward_requests(connection))
                group.create_task(self._forward_responses(connection))
        except* (Ended, OSError, asyncio.IncompleteReadError):
            pass

    async def _forward_requests(self, connection: "Connection") -> None:
        while not connection.is_socket:
            head = await connection.reader.readuntil(b"\r\n\r\n")
            self.targets.append(head.split(b" ", 2)[1].decode())
            kinds = {kind for kind, pattern in KINDS.items() if pattern.search(head)}
            if refused := kinds & self.refuses:
                self.refused.update(refused)
                await self._write(connection.browser, _page(self.refusal))
                raise Ended
            self.passed.update(kinds)
            connection.is_socket = "websocket" in kinds
            connection.writes = "api" in kinds
            length = LENGTH.search(head)
            body = await connection.reader.readexactly(int(length[1])) if length else b""
            await self._write(connection.server, head + body)
        while True:
            await self._write(connection.server, await _read(connection.reader))

    async def _forward_responses(self, connection: "Connection") -> None:
        while not connection.is_socket:
            chunk = await _read(connection.responses)
            if connection.writes and self.loses:
                self.loses -= 1
                self.lost += 1
                connection.browser.transport.abort()
                raise Ended
            if self.poll_after is not None:
                chunk = POLL_AFTER.sub(rb"\g<1>" + self.poll_after, chunk)
            muted = connection.is_socket and self.mute
            await self._write(connection.browser, _head(chunk) if muted else chunk)
        try:
            async with asyncio.timeout(self.socket_life):
                await self._forward_frames(connection)
        except TimeoutError:
            self.cut += 1
            connection.browser.transport.abort()
            raise Ended from None

    async def _write(self, writer: StreamWriter, chunk: bytes) -> None:
        await asyncio.sleep(self.delay)
        writer.write(chunk)
        await writer.drain()

    async def _forward_frames(self, connection: "Connection") -> None:
        while True:
            chunk = await _read(connection.responses)
            if not self.mute:
                await self._write(connection.browser, chunk)


@dataclass
class Connection:
    """A connection of the browser and its connection to the server."""

    reader: StreamReader
    browser: StreamWriter
    responses: StreamReader
    server: StreamWriter
    is_socket: bool = False
    writes: bool = False  # whether the last request was one of the API that changes data


def _page(status: HTTPStatus) -> bytes:
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + PAGE


async def _read(reader: StreamReader) -> bytes:
    if chunk := await reader.read(CHUNK_SIZE):
        return chunk
    raise Ended


def _head(chunk: bytes) -> bytes:
    return chunk[: chunk.index(b"\r\n\r\n") + 4]


@asynccontextmanager
async def _closing(writer: StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

"""Serves an ASGI application and a push edge in this process, on a real socket, without a database."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from microblog_rt import server
from microblog_rt.accounts import Reader
from microblog_rt.feed import Stream
from microblog_rt.feed.watches import Watch
from microblog_rt.hub import Hub
from microblog_rt.protocol import MICROSECONDS, Notification, Signal
from microblog_rt.push import Edge
from microblog_rt.push.peers import Addresses
from microblog_rt.server.accepting import Acceptor
from microblog_rt.server.pages import Pages
from microblog_rt.settings import Settings
from microblog_rt.storage import sql_time
from microblog_rt.storage.notifications import Page
from microblog_rt.timeouts import Timeouts
from microblog_rt.web.admission import HEADERS, Admission, Query, Scope, parse
from microblog_rt.web.origins import Origins
from microblog_rt.web.tabs import Tabs
from tests.server_process import DEADLINE

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

HANDSHAKE = (
    b"GET /notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SETTINGS = Settings(tabs_per_user=None, tabs_per_address=None)
YEAR = 365 * 86400 * MICROSECONDS


async def live(receive: Receive, send: Send) -> None:
    """The lifespan of an application without start-up or shutdown work."""
    for word in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{word}.complete"})


class OpenAdmission(Admission):
    """Admits every request, as user 1."""

    def __init__(self) -> None:
        self._headers = HEADERS
        self._prefix = ""
        self._origins = Origins(SETTINGS)
        self.tabs = Tabs(SETTINGS)

    def admit(self, scope: Scope, *, socket: bool = False) -> tuple[Reader, Query]:
        return Reader(1, "x"), parse(scope["query_string"], scope["headers"])

    def address(self, scope: Scope) -> str:
        return ""


class StubFeed:
    """A feed without a database: every read is answered at once, with nothing, unless it is ``held``."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.streams: set[Stream] = set()
        self.changed = asyncio.Event()
        self.held: list[Stream] | None = None
        self.clock = 1
        self.knows = False  # whether a new stream is answered in the call of ``open``, as from a watch

    @property
    def reads(self) -> Any:
        return self

    def ask(self, stream: Stream) -> None:
        if self.held is None:
            asyncio.get_running_loop().call_soon(self.answer, stream)
        else:
            self.held.append(stream)

    def answer(self, stream: Stream) -> None:
        """Answer the read of ``stream``, with nothing."""
        stream.begin()
        stream.answer(Page([], self.clock, round(time.time() * MICROSECONDS) + YEAR))

    def drop(self, stream: Stream) -> None:
        """A stream ends; an answer would be ignored."""

    def known(self, *_: object) -> list[Notification]:
        return []

    def watch(self, stream: Stream) -> Watch:
        return Watch(stream.user_id)

    def open(self, stream: Stream) -> None:
        self.streams.add(stream)
        self.hub.add(stream)
        self.changed.set()
        if self.knows:
            self.answer(stream)
        else:
            stream.advance()

    def leave(self, stream: Stream) -> None:
        stream.ended = True
        self.streams.discard(stream)
        self.hub.remove(stream)
        self.changed.set()

    def send(self, payload_json: str) -> None:
        """Signal a notification to every stream."""
        before, self.clock = self.clock, self.clock + 1
        self.hub.deliver(Signal(1, self.clock, before, Notification("n", payload_json, self.clock)))

    async def streaming(self, count: int) -> None:
        """Wait until there are ``count`` streams."""
        async with asyncio.timeout(DEADLINE):
            while len(self.streams) != count:
                self.changed.clear()
                await self.changed.wait()


class Serving:
    """What serves: its port, its feed and its edge."""

    def __init__(self, port: int, feed: StubFeed, edge: Edge, pages: Pages) -> None:
        self.port = port
        self.feed = feed
        self.edge = edge
        self.pages = pages

    async def sends(self, payload_json: str, pause: float) -> None:
        """Signal a notification every ``pause`` seconds, forever."""
        while True:
            self.feed.send(payload_json)
            await asyncio.sleep(pause)

    async def idle(self, seconds: float = DEADLINE) -> None:
        """Wait until no connection is left."""
        async with asyncio.timeout(seconds):
            while self.edge.connections or self.feed.streams or self.pages._tasks:
                await asyncio.sleep(0)


class Expiring:
    """Answers the reads of a feed: the first with a session that expires after ``lasts`` seconds."""

    def __init__(self, it: Serving, lasts: float) -> None:
        self.it = it
        self.lasts = lasts
        self.asked = 0
        it.feed.ask = self.ask  # type: ignore[method-assign]

    def ask(self, stream: Stream) -> None:
        self.asked += 1
        stream.begin()
        expires = sql_time.now() + round(self.lasts * MICROSECONDS)
        page = Page([], self.it.feed.clock, expires) if self.asked == 1 else None
        asyncio.get_running_loop().call_soon(stream.answer, page)


@asynccontextmanager
async def serving(
    app: Any, timeouts: Timeouts = Timeouts(), per_address: int | None = None, heartbeat: float = 20.0
) -> AsyncIterator[Serving]:
    """Serve ``app``, and streams at /notifications."""
    listening = server.listen("127.0.0.1:0")
    config, feed = server.configuration(), StubFeed()
    settings = replace(SETTINGS, heartbeat=heartbeat)
    config.keep_alive_timeout = settings.keep_alive_timeout
    pages = Pages(app, config, timeouts)
    edge = Edge(feed, feed.hub, OpenAdmission(), settings, pages.serve, timeouts)  # type: ignore[arg-type]
    edge.addresses = Addresses(per_address)
    await pages.start()
    port = int(listening.getsockname()[1])
    accepting = Acceptor(listening, edge.connect, timeouts.accept_turn)
    accepting.start()
    try:
        yield Serving(port, feed, edge, pages)
    finally:
        for stream in list(feed.streams):
            stream.close(0)
        accepting.close()
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(pages.finish(), edge.close())
            await pages.stop()


@asynccontextmanager
async def served(app: Any, timeouts: Timeouts = Timeouts(), per_address: int | None = None) -> AsyncIterator[int]:
    """Serve ``app``; yields its port."""
    async with serving(app, timeouts, per_address) as it:
        yield it.port


def warnings_logged(records: Iterable[logging.LogRecord]) -> list[str]:
    """Messages logged as warnings or worse, except asyncio's debug messages about slow steps."""
    loud = [each for each in records if each.levelno >= logging.WARNING]
    messages = [each.getMessage() for each in loud]
    return [each for each in messages if not (each.startswith("Executing ") and each.endswith(" seconds"))]


class RawClient:
    """The client's side of one connection, in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        """The head of the response."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: its first byte, and its payload."""
        first, length = await self.reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return first, await self.reader.readexactly(length)


@asynccontextmanager
async def raw_client(port: int, *, receive_buffer: int | None = None) -> AsyncIterator[RawClient]:
    """A connection to ``port``; a small ``receive_buffer`` makes a client that stops reading stall soon."""
    raw = socket.socket()
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


def client_frame(first: int, payload: bytes = b"", mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A frame as a client sends it, masked; ``first``: FIN, RSV and opcode."""
    length = len(payload)
    if length < 126:
        head = bytes([first, 0x80 | length])
    elif length < 2**16:
        head = bytes([first, 0x80 | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + length.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


class Application:
    """Answers complete requests; counts those it is serving."""

    def __init__(self) -> None:
        self.inside = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        self.inside += 1
        try:
            await self._page(receive, send)
        finally:
            self.inside -= 1

    async def _page(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            if not event["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def idle(self) -> None:
        """Wait until nothing is being served."""
        async with asyncio.timeout(DEADLINE):
            while self.inside:
                await asyncio.sleep(0)

"""Serves an ASGI application in this process, on a real socket, with the server's own connections and streams."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from hypercorn.asyncio import serve

from microblog_rt import server
from microblog_rt.server import connection, websocket
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts
from tests.server_process import DEADLINE

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

HANDSHAKE = (
    b"GET /notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def live(receive: Receive, send: Send) -> None:
    """The lifespan of an application without start-up or shutdown work."""
    for word in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{word}.complete"})


@asynccontextmanager
async def served(app: Any, timeouts: Timeouts = Timeouts(), per_address: int | None = None) -> AsyncIterator[int]:
    """Serve ``app``; yields its port."""
    websocket.install(timeouts)
    connection.install(timeouts, per_address)
    listening = server.listen("127.0.0.1:0")
    port = int(listening.getsockname()[1])
    config = server.configuration()
    config.keep_alive_timeout = Settings().keep_alive_timeout
    config.bind = [f"fd://{listening.detach()}"]
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield port
    finally:
        stop.set()
        await serving


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
    """Answers complete requests; on a WebSocket sends a text every ``pause`` seconds. Counts what it is serving."""

    def __init__(self, text: str = "[]", pause: float = 0.05) -> None:
        self.text = text
        self.pause = pause
        self.inside = 0
        self.changed = asyncio.Event()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        self._count(1)
        try:
            await (self._page if scope["type"] == "http" else self._socket)(receive, send)
        finally:
            self._count(-1)

    async def _page(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            if not event["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _socket(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        sending = asyncio.create_task(self._send_texts(send))
        while (await receive())["type"] != "websocket.disconnect":
            pass
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    async def _send_texts(self, send: Send) -> None:
        while True:
            await send({"type": "websocket.send", "text": self.text})
            await asyncio.sleep(self.pause)

    def _count(self, change: int) -> None:
        self.inside += change
        self.changed.set()

    async def idle(self) -> None:
        """Wait until nothing is being served."""
        await self.serving_count(0)

    async def serving_count(self, count: int) -> None:
        """Wait until ``count`` requests are being served."""
        async with asyncio.timeout(DEADLINE):
            while self.inside != count:
                self.changed.clear()
                await self.changed.wait()


def connections() -> list[asyncio.Task[Any]]:
    """What the server still runs for its connections."""
    return [task for task in asyncio.all_tasks() if "_server_callback" in repr(task.get_coro())]

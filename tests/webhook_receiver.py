"""A receiver of webhooks on a real socket, which answers as a test says."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tests.clients import DEADLINE

ACCEPTED = b"HTTP/1.1 204 No Content\r\n\r\n"
FAILED = b"HTTP/1.1 500 Oh No\r\nContent-Length: 0\r\n\r\n"
HELD = b""  # no answer


class Post(NamedTuple):
    """A POST as it arrived: its header fields by their names in lower case, and its body."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class LocalReceiver:
    """Records POSTs, and answers each with ``answer``."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answer = ACCEPTED
        self.port = 0
        self.lost = asyncio.Event()  # the other side has closed a connection
        self._arrived = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=1"

    async def arrived(self, count: int) -> None:
        """Wait until there are ``count`` POSTs."""
        async with asyncio.timeout(DEADLINE):
            while len(self.posts) < count:
                self._arrived.clear()
                await self._arrived.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                assert head.startswith("POST /hook?key=1 HTTP/1.1\r\n"), head
                lines = (line.split(": ", 1) for line in head.split("\r\n")[1:-2])
                headers = {name.lower(): value for name, value in lines}
                body = await reader.readexactly(int(headers["content-length"]))
                self.posts.append(Post(headers, body))
                self._arrived.set()
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost.set()
        finally:
            writer.close()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[LocalReceiver]:
    """A receiver that listens."""
    receiver = LocalReceiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver

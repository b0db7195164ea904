"""HTTP requests with a browser's headers, one at a time, over a keep-alive connection.

Cookies set by answers are ignored, so that all requests are alike.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlencode

from tests.server_process import Server

from benchmarks.world import Person

HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/141.0.0.0 Safari/537.36\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en-US;q=0.9,en;q=0.8\r\n"
    "Cache-Control: no-cache\r\n"
    "Pragma: no-cache\r\n"
)
HINTS = 'sec-ch-ua: "Chromium";v="141", "Not?A_Brand";v="8"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\n'
FETCHED = "Accept: */*\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n"
TYPE = "Content-Type: application/x-www-form-urlencoded\r\n"
PATIENCE = 30.0  # seconds for one answer


class Answer(NamedTuple):
    status: int
    head: str
    body: str


class Connection:
    """A keep-alive connection."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._origin = server.url
        self._reader = reader
        self._writer = writer

    async def get(self, path: str, cookie: str) -> Answer:
        return await self._request(f"GET {path}", cookie)

    async def post(self, path: str, cookie: str, **fields: str) -> Answer:
        return await self._request(f"POST {path}", cookie, urlencode(fields))

    async def _request(self, request_line: str, cookie: str, body: str | None = None) -> Answer:
        sent = "" if body is None else f"{TYPE}Origin: {self._origin}\r\nContent-Length: {len(body)}\r\n"
        host = self._origin.removeprefix("http://")
        head = f"{request_line} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n{HEADERS}{HINTS}{FETCHED}{sent}\r\n"
        self._writer.write((head + (body or "")).encode())
        async with asyncio.timeout(PATIENCE):
            return await self._answer()

    async def _answer(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"(?i)\r\ncontent-length: *([0-9]+)", head)
        assert length, head
        return Answer(int(head.split(" ", 2)[1]), head, (await self._reader.readexactly(int(length[1]))).decode())


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Connection]:
    """A connection to ``server``, closed on exit."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Connection(server, reader, writer)
    finally:
        writer.close()


class Sender:
    """Sends messages with one CSRF token."""

    def __init__(self, connection: Connection, cookie: str, token: str) -> None:
        self._connection = connection
        self._cookie = cookie
        self._token = token
        self._sent = 0

    async def send(self, recipient: str) -> None:
        """Send one message and wait for the commit."""
        self._sent += 1
        fields = {
            "csrf_token": self._token,
            "nonce": f"nonce-{self._sent:010}",
            "message": f"no. {self._sent}",
        }
        answer = await self._connection.post(f"/send_message/{recipient}", self._cookie, **fields)
        assert (answer.status, "/user/" in answer.head) == (303, True), answer


@asynccontextmanager
async def sender(server: Server, person: Person) -> AsyncIterator[Sender]:
    """A sender for ``person`` with its own connection."""
    async with connected(server) as connection:
        page = await connection.get(f"/send_message/{person.name}", person.cookie)
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.body)
        cookie = re.search(r"(?i)\r\nset-cookie: *([^;\r]+)", page.head)
        assert token, page
        assert cookie, page
        yield Sender(connection, f"{person.cookie}; {cookie[1]}", token[1])

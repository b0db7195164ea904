"""HTTP requests with a browser's headers, one at a time, over a keep-alive connection.

Cookies set by answers are ignored, so that all requests are alike.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple, cast
from urllib.parse import urlencode

from benchmarks.world import Person

HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/141.0.0.0 Safari/537.36",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en-US;q=0.9,en;q=0.8",
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
}
FETCHED = HEADERS | {
    "sec-ch-ua": '"Chromium";v="141", "Not?A_Brand";v="8"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Accept": "*/*",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
}
COMMON = "".join(f"{name}: {value}\r\n" for name, value in FETCHED.items())
TYPE = "Content-Type: application/x-www-form-urlencoded\r\n"
TOKEN = re.compile(r'name="csrf_token"[^>]* value="([^"]+)"')
PATIENCE = 60.0  # seconds for one answer
numbers = itertools.count(1)


class Answer(NamedTuple):
    """The status, the head and the body."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """One header's value; empty if there is none."""
        found = re.search(rf"\r\n{name}: *([^\r]*)".encode(), self.head, re.IGNORECASE)
        return found[1].decode("latin-1") if found else ""


def get_request(port: int, path: str, cookie: str, headers: str = "") -> bytes:
    """A browser's GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{COMMON}{headers}Cookie: {cookie}\r\n\r\n".encode()


def post_request(port: int, path: str, cookie: str, body: bytes, headers: str = TYPE) -> bytes:
    """A browser's POST request."""
    origin = f"http://127.0.0.1:{port}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{COMMON}{headers}Origin: {origin}\r\n"
        f"Content-Length: {len(body)}\r\nCookie: {cookie}\r\n\r\n"
    ).encode() + body


class Browser:
    """A connection of a browser, opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._exchange: Exchange | None = None

    async def get(self, path: str, cookie: str, headers: str = "") -> Answer:
        return await self.ask(get_request(self.port, path, cookie, headers))

    async def post(self, path: str, cookie: str, **fields: str) -> Answer:
        return await self.ask(post_request(self.port, path, cookie, urlencode(fields).encode()))

    async def ask(self, request: bytes) -> Answer:
        """The answer to any request."""
        async with asyncio.timeout(PATIENCE):
            if self._exchange is None or self._exchange.closed:
                loop = asyncio.get_running_loop()
                _, self._exchange = await loop.create_connection(Exchange, "127.0.0.1", self.port)
            answer = await self._exchange.ask(request)
            if b"onnection: close" in answer.head:
                self.drop()
            return answer

    def drop(self) -> None:
        """Close the connection."""
        if self._exchange is not None:
            self._exchange.transport.abort()
            self._exchange = None


class Exchange(asyncio.Protocol):
    """One connection; answers have a Content-Length or end with the connection."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[Answer] | None = None
        self._received = b""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._answer is None:
            return
        answer = Answer(int(head[9:12]), head, body)
        length = answer.header("Content-Length")
        if answer.status == 304 or (length and len(body) >= int(length)):
            self._received = b""
            if not self._answer.done():
                self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("closed before an answer"))


@contextmanager
def connected(port: int) -> Iterator[Browser]:
    """A connection to a server, closed on exit."""
    browser = Browser(port)
    try:
        yield browser
    finally:
        browser.drop()


class Sender:
    """Sends messages with one CSRF token."""

    def __init__(self, browser: Browser, cookie: str, token: str) -> None:
        self._browser = browser
        self._cookie = cookie
        self._token = token

    async def send(self, recipient: str) -> None:
        """Send one message and wait for the commit."""
        number = next(numbers)
        fields = {"csrf_token": self._token, "nonce": f"nonce-{number:010}", "message": f"no. {number}"}
        answer = await self._browser.post(f"/send_message/{recipient}", self._cookie, **fields)
        assert answer.status in (302, 303), answer
        assert "/user/" in answer.header("Location"), answer


@asynccontextmanager
async def sender(port: int, person: Person) -> AsyncIterator[Sender]:
    """A sender for ``person`` with its own connection."""
    with connected(port) as browser:
        page = await browser.get(f"/send_message/{person.name}", person.cookie)
        token = TOKEN.search(page.body.decode())
        assert token, page
        cookie = page.header("Set-Cookie").partition(";")[0]
        yield Sender(browser, f"{person.cookie}; {cookie}", token[1])

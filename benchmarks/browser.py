"""HTTP requests with a browser's headers, one at a time, over a keep-alive connection.

Cookies set by answers are ignored, so that all requests are alike.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlencode

from tests.http_connection import Answer, Connection
from tests.server_process import Server

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
TYPE = "application/x-www-form-urlencoded"
PATIENCE = 30.0  # seconds for one answer


class Browser:
    """A keep-alive connection of a browser."""

    def __init__(self, server: Server) -> None:
        self._origin = server.url
        self.connection = Connection(server.port)

    async def get(self, path: str, cookie: str) -> Answer:
        return await self.connection.request("GET", path, FETCHED | {"Cookie": cookie}, seconds=PATIENCE)

    async def post(self, path: str, cookie: str, **fields: str) -> Answer:
        headers = FETCHED | {"Cookie": cookie, "Origin": self._origin, "Content-Type": TYPE}
        return await self.connection.request("POST", path, headers, urlencode(fields).encode(), seconds=PATIENCE)


@contextmanager
def connected(server: Server) -> Iterator[Browser]:
    """A connection to ``server``, closed on exit."""
    browser = Browser(server)
    try:
        yield browser
    finally:
        browser.connection.drop()


class Sender:
    """Sends messages with one CSRF token."""

    def __init__(self, browser: Browser, cookie: str, token: str) -> None:
        self._browser = browser
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
        answer = await self._browser.post(f"/send_message/{recipient}", self._cookie, **fields)
        assert (answer.status, "/user/" in answer.headers["location"]) == (303, True), answer


@asynccontextmanager
async def sender(server: Server, person: Person) -> AsyncIterator[Sender]:
    """A sender for ``person`` with its own connection."""
    with connected(server) as browser:
        page = await browser.get(f"/send_message/{person.name}", person.cookie)
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.body.decode())
        assert token, page
        cookie = page.headers["set-cookie"].partition(";")[0]
        yield Sender(browser, f"{person.cookie}; {cookie}", token[1])

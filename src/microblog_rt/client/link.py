"""The network: one server's address, its credentials, and the operations that the state machine opens."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from microblog_rt.client.events import SSE, WEBSOCKET, Closed, Failed, Open, Opened, OperationEvent, Response, Text

ERRORS = (httpx.HTTPError, httpx.InvalidURL, OSError, EOFError, UnicodeError, WebSocketException)
ACCEPT = {SSE: "text/event-stream"}
NO_CLOSE_FRAME = 1006
LARGEST_FRAME = 2**24  # bytes
CLOSE_TIMEOUT = 1.0  # seconds
API_TIMEOUT = 30.0  # seconds

# Its own logger, because websockets writes headers, and so the token, at the level DEBUG.
log = logging.getLogger(__name__)
log.setLevel(logging.INFO)

Report = Callable[[OperationEvent], None]
Token = str | Callable[[], str | Awaitable[str]]


class Link:
    """A server at ``url``; the credentials are a bearer token, cookies or other headers.

    ``token`` may be a function, which is called before each request.
    """

    def __init__(
        self,
        url: str,
        token: Token | None = None,
        cookies: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        parts = _parts(url)
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self._headers = dict(headers or {})
        self._token = token if token is None or callable(token) else _checked(token)
        if cookies:
            self._headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self._origin: Any = f"{parts.scheme}://{parts.netloc}" if "Cookie" in self._headers else None
        self._http = httpx.AsyncClient(timeout=API_TIMEOUT)
        self._sockets: dict[int, ClientConnection] = {}

    async def close(self) -> None:
        await self._http.aclose()

    async def request(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """One request of the API. Raises `httpx.TransportError`."""
        sent = await self._credentials() | dict(headers or {})
        return await self._http.request(method, self.url + path, json=json, headers=sent)

    async def send(self, number: int, text: str) -> None:
        """Send a text frame on the WebSocket of that operation, if it is open."""
        if number in self._sockets:
            with contextlib.suppress(ConnectionClosed):  # which ends the operation as well
                await self._sockets[number].send(text)

    async def run(self, operation: Open, names: Sequence[str], report: Report) -> None:
        """Carry out an operation to its end, and report its events."""
        query = [("since", repr(operation.since)), *(("name", name) for name in names)]
        if operation.hold is not None:
            query.append(("wait", str(operation.hold)))
        target = f"{self.url}/notifications?{urlencode(query)}"
        try:
            if operation.transport == WEBSOCKET:
                await self._run_socket(operation.id, target, report)
            else:
                accept = ACCEPT.get(operation.transport, "application/json")
                await self._run_request(operation.id, target, accept, report)
        except ERRORS as error:
            report(Failed(operation.id, str(error) or type(error).__name__))

    async def _credentials(self) -> dict[str, str]:
        """The headers of the next request."""
        if self._token is None:
            return self._headers
        token = self._token() if callable(self._token) else self._token
        text = token if isinstance(token, str) else await token
        return self._headers | {"Authorization": f"Bearer {_checked(text)}"}

    async def _run_socket(self, number: int, target: str, report: Report) -> None:
        opening = _NoRedirects(
            "ws" + target.removeprefix("http"),
            additional_headers=await self._credentials(),
            origin=self._origin,
            compression=None,
            open_timeout=None,  # the state machine has the time-outs
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT,
            max_size=LARGEST_FRAME,
            logger=log,
        )
        try:
            async with opening as socket:
                self._sockets[number] = socket
                response = socket.response
                report(Opened(number, _lower(response.headers.raw_items()) if response else {}))
                while True:
                    frame = await socket.recv()
                    if isinstance(frame, str):
                        report(Text(number, frame))
        except InvalidStatus as refusal:
            response = refusal.response
            body = (response.body or b"").decode(errors="replace")
            report(Response(number, response.status_code, _lower(response.headers.raw_items()), body))
        except ConnectionClosed as end:
            report(Closed(number, end.rcvd.code, end.rcvd.reason) if end.rcvd else Closed(number, NO_CLOSE_FRAME))
        finally:
            self._sockets.pop(number, None)

    async def _run_request(self, number: int, target: str, accept: str, report: Report) -> None:
        sent = await self._credentials() | {"Accept": accept, "Cache-Control": "no-store"}
        async with self._http.stream("GET", target, headers=sent, timeout=None) as response:
            headers = _lower(response.headers.items())
            if accept not in ACCEPT.values() or response.status_code != httpx.codes.OK:
                body = (await response.aread()).decode(errors="replace")
                report(Response(number, response.status_code, headers, body))
                return
            report(Opened(number, headers))
            chunks: AsyncIterator[str] = response.aiter_text()
            async for chunk in chunks:
                report(Text(number, chunk))
            report(Closed(number))


def _checked(token: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise ValueError("the token has characters that no token has")
    return token


def _parts(url: str) -> SplitResult:
    """The parts of the URL of a server, which HTTP and WebSocket can use. Raises ValueError."""
    try:
        parts, _ = urlsplit(url), httpx.URL(url).host
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        valid = False
    if not valid or parts.query or parts.fragment:
        raise ValueError(f"not the URL of a server, such as https://www.example.org: {url!r}")
    if "@" in parts.netloc:  # httpx would send it instead of the token
        raise ValueError("the URL must not have a user name and a password; pass the token instead")
    return parts


class _NoRedirects(connect):
    """The server never redirects a handshake. A captive portal does."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}

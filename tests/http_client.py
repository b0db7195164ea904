"""Clients of a real server: sign-in over HTTP, a WebSocket tab, polls and long polls.

    person = Person(server, "alice")            # signs in; keeps cookies, sends CSRF token and Origin
    person.send("bob", "hello")                 # sends a message
    async with websocket(server.url, person.cookie()) as tab: ...
    answer = await get(server.url, person.cookie(), "/notifications?wait=5")

``server`` is anything with ``url`` and ``password``, such as `tests.server_process.Server`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import httpx
from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from tests.server_process import Server

DEADLINE = 60.0  # seconds
NOTIFICATIONS = "/notifications"
OWN = "own"  # the Origin of the server itself


class Person:
    """A signed-in user with a browser's cookies; synchronous."""

    def __init__(self, server: "Server", name: str) -> None:
        self.server = server
        self.name = name
        self.client = httpx.Client(base_url=server.url, timeout=DEADLINE, headers={"Accept": "text/html, */*;q=0.8"})
        answer = self.post("/auth/login", username=name, password=server.password)
        assert answer.status_code == httpx.codes.SEE_OTHER, answer.text

    def token(self) -> str:
        """A CSRF token of this browser."""
        page = self.client.get("/auth/login", follow_redirects=True).text
        found = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert found, page
        return found[1]

    def post(self, path: str, **fields: str) -> httpx.Response:
        """Submit a form with a CSRF token; redirects are not followed."""
        return self.client.post(
            path, data={"csrf_token": self.token(), **fields}, headers={"Origin": origin_of(self.server.url)}
        )

    def send(self, recipient: str, text: str) -> None:
        """Send a message."""
        answer = self.post(f"/send_message/{recipient}", message=text)
        assert answer.status_code == httpx.codes.SEE_OTHER, answer.text

    def cookie(self) -> str:
        """The Cookie header of this browser."""
        return "; ".join(f"{name}={value}" for name, value in self.client.cookies.items())

    @property
    def session_cookie(self) -> str:
        """The name of the session's cookie."""
        return cookie_named("session", self.client.cookies)

    def close(self) -> None:
        self.client.close()


def cookie_named(kind: str, names: Iterable[str]) -> str:
    """The name in ``names`` of an instance's cookie ``session``, ``browser`` or ``flash``."""
    (name,) = [each for each in names if re.match(f"(__(Host|Secure)-)?microblog_{kind}(_|$)", each)]
    return name


def origin_of(url: str) -> str:
    """The origin of a server's address, which may have a path."""
    return "/".join(url.split("/")[:3])


def session_cookie(url: str) -> str:
    """The name of the cookies of sessions at ``url``."""
    cookies = httpx.get(f"{url}/auth/login", timeout=DEADLINE).cookies
    return cookie_named("browser", cookies).replace("browser", "session")


def websocket(
    url: str,
    cookie: str,
    target: str = NOTIFICATIONS,
    headers: Mapping[str, str] | None = None,
    origin: str | None = OWN,
    **options: Any,
) -> connect:
    """A WebSocket to ``target``; await it or enter it.

    ``cookie`` and ``origin`` are header values: by default the Origin is the server's own; None sends no Origin.
    ``headers`` are added to the handshake, ``options`` are those of `websockets.asyncio.client.connect`. Raises
    `websockets.exceptions.InvalidStatus` on entry when refused.
    """
    return connect(
        url.replace("http", "ws", 1) + target,
        origin=origin_of(url) if origin == OWN else origin,  # type: ignore[arg-type]
        additional_headers={"Cookie": cookie, **(headers or {})},
        **{"compression": None, "proxy": None} | options,
    )


async def get(url: str, cookie: str, target: str = NOTIFICATIONS, accept: str = "*/*") -> httpx.Response:
    """One request with that Cookie header, on a connection of its own; with ``?wait=N`` a long poll.

    The header bypasses httpx's cookie jar, which would refuse malformed cookies.
    """
    async with httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
        return await client.get(target, headers={"Cookie": cookie, "Accept": accept})

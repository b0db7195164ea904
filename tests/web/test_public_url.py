"""With ``MICROBLOG_PUBLIC_URL`` only one Origin and one Host are accepted, on every transport. In process, raw headers.

Not here: over plain http (``tests/test_origins.py``); cookies (``test_https.py``).
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from quart import Quart

from microblog_rt.services import Services
from microblog_rt.settings import Settings
from tests.conftest import PASSWORD

OURS = "https://microblog.example"
HOST = ("Host", "microblog.example")
TRANSPORTS = {
    "poll": ("http", b"", 200),
    "long poll": ("http", b"wait=0.01", 200),
    "websocket": ("websocket", b"", 101),
}
EVENTS = {"http": ["request"], "websocket": ["disconnect", "connect"]}  # the last one first

FOREIGN = [
    # other schemes and ports
    "http://microblog.example",
    "http://microblog.example:443",
    "wss://microblog.example",
    "https:microblog.example",
    "//microblog.example",
    "microblog.example",
    "https://microblog.example:443",
    "https://microblog.example:80",
    "https://microblog.example:8443",
    "https://microblog.example:",
    # other names
    "https://evil.example",
    "https://example",
    "https://www.microblog.example",
    "https://microblog.example.",
    "https://microblog.example.evil.example",
    "https://microblog.example.com",
    "https://microblog.examples",
    "https://evilmicroblog.example",
    "https://evil-microblog.example",
    "https://microblog-example",
    "https://microblogxexample",
    "https://localhost",
    "https://127.0.0.1",
    "https://[::1]",
    "http://localhost",
    # more than an origin
    "https://microblog.example/",
    "https://microblog.example/notifications",
    "https://microblog.example?",
    "https://microblog.example#",
    "https://alice@microblog.example",
    "https://microblog.example@evil.example",
    "https://evil.example/https://microblog.example",
    # other spellings
    "HTTPS://microblog.example",
    "https://MICROBLOG.example",
    "https://microblog%2Eexample",
    "https://micr%D0%BEblog.example",
    "https://micr\u043eblog.example",
    "https://xn--micrblog-4nf.example",
    "https://microblog\u3002example",
    "https://microblog.example\u200b",
    # none, and several
    "null",
    "",
    "*",
    "https://microblog.example https://microblog.example",
    "https://microblog.example, https://evil.example",
    "https://evil.example https://microblog.example",
    " https://microblog.example",
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, public_url=OURS)


@pytest.fixture
async def cookie(app: Quart, services: Services) -> tuple[str, str]:
    susan = await services.accounts.register("susan", PASSWORD)
    token = await services.sessions.start_session(susan, remembered=True)
    authentication = app.extensions["authentication"]
    await services.messages.send_message(1, 1, "hello")
    return "Cookie", f"{authentication.cookie_name}={authentication.dump_token(f'{susan.id}.{token}', app)}"


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def status(app: Quart, transport: str, *headers: tuple[str, str], path: str = "/notifications") -> int:
    """The status of the answer to a request with exactly these headers; 101 for an accepted handshake."""
    kind, query, _ = TRANSPORTS[transport]
    sent: list[dict[str, Any]] = []
    events = [{"type": f"{kind}.{event}"} for event in EVENTS[kind]]

    async def receive() -> Any:
        return events.pop() if events else await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query}
    scope |= {"headers": [(name.lower().encode(), value.encode()) for name, value in headers], "http_version": "1.1"}
    scope |= {"scheme": "http", "root_path": "", "client": ("10.0.0.1", 1), "server": ("10.0.0.2", 8000)}
    await app.asgi_app(scope, receive, send)  # type: ignore[arg-type]
    return 101 if sent[0]["type"] == "websocket.accept" else int(sent[0]["status"])


async def test_public_origin_is_accepted(app: Quart, cookie: tuple[str, str], transport: str) -> None:
    assert await status(app, transport, HOST, cookie, ("Origin", OURS)) == TRANSPORTS[transport][2]
    assert await status(app, transport, HOST, cookie) == (403 if transport == "websocket" else 200)


async def test_every_other_origin_is_refused(app: Quart, cookie: tuple[str, str], transport: str) -> None:
    assert len(set(FOREIGN)) >= 40
    refused = {each: await status(app, transport, HOST, cookie, ("Origin", each)) for each in FOREIGN}
    assert set(refused.values()) == {403}, refused
    for two in ((OURS, "https://evil.example"), ("https://evil.example", OURS), (OURS, OURS)):
        assert await status(app, transport, HOST, cookie, *(("Origin", each) for each in two)) == 403, two


@pytest.mark.parametrize("sites", [["cross-site"], ["same-site"], [""], ["same-origin", "cross-site"]])
async def test_cross_site_fetch_metadata_is_refused(
    app: Quart, cookie: tuple[str, str], transport: str, sites: list[str]
) -> None:
    fetch_site = [("Sec-Fetch-Site", site) for site in sites]
    assert await status(app, transport, HOST, cookie, ("Origin", OURS), *fetch_site) == 403


FOREIGN_HOSTS = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    "10.0.0.2:8000",
    "evil.example",
    "microblog.example:80",
    "microblog.example:8443",
    "microblog.example.",
    "www.microblog.example",
    "microblog.example.evil.example",
    "evil@microblog.example",
    "",
]


@pytest.mark.parametrize("path", ["/notifications", "/", "/auth/login", "/nothing"])
async def test_only_the_public_host_is_answered(app: Quart, cookie: tuple[str, str], transport: str, path: str) -> None:
    for host in FOREIGN_HOSTS:
        asked = ("Host", host), cookie, ("Origin", OURS)
        assert await status(app, transport, *asked, path=path) == 400, host
    assert await status(app, transport, HOST, HOST, cookie, ("Origin", OURS), path=path) == 400
    assert await status(app, transport, cookie, ("Origin", OURS), path=path) == 400
    for host in ("microblog.example", "microblog.example:443", "MicroBlog.Example"):
        assert await status(app, transport, ("Host", host), cookie, ("Origin", OURS), path=path) != 400, host


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_accepts_any_host(app: Quart, path: str) -> None:
    for host in FOREIGN_HOSTS:
        expected = 400 if "@" in host else 200  # malformed
        assert await status(app, "poll", ("Host", host), path=path) == expected

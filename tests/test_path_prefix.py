"""The application below a path of another site, over both ways in: the push edge with Hypercorn, and ASGI alone."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from websockets.exceptions import InvalidStatus

from microblog_rt.app import create_app
from microblog_rt.settings import Settings
from tests.asgi_server import RawClient, raw_client
from tests.conftest import PASSWORD
from tests.edge_site import Site, served
from tests.http_client import websocket
from tests.raw_responses import DEADLINE, Response, response

PREFIX = "/badge"
HOST = "127.0.0.1"
BROWSER = {"Host": HOST, "Origin": f"http://{HOST}", "Accept": "text/html, */*;q=0.8"}
ADDRESSES = re.compile(r'(?:href|src|action|data-notifications)="([^"#][^"]*)"')

Ask = Callable[..., Awaitable[Response]]


@pytest.fixture
async def site(settings: Settings) -> AsyncIterator[Site]:
    async with served(replace(settings, path_prefix=PREFIX)) as site:
        for name in ("susan", "john"):
            await site.services.accounts.register(name, PASSWORD)
        yield site


@pytest.fixture(params=["edge", "asgi"])
def ask(request: pytest.FixtureRequest, site: Site) -> Ask:
    """Sends one request, whose target is not changed, and returns the response."""

    async def ask(target: str, method: str = "GET", headers: dict[str, str] = BROWSER, body: bytes = b"") -> Response:
        if request.param == "asgi":
            return await by_asgi(site.app, method, target, headers, body)
        length = {"Content-Length": str(len(body))} if body else {}
        lines = [f"{name}: {value}" for name, value in (headers | length).items()]
        async with raw_client(site.port) as client:
            await client.send("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode() + body)
            return await response_of(client, body=method != "HEAD")

    return ask


async def by_asgi(app: Any, method: str, target: str, headers: dict[str, str], body: bytes) -> Response:
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": (HOST, 1),
        "server": (HOST, 80),
    }
    start, *parts = await messages_sent(app, scope, {"type": "http.request", "body": body})
    fields = [(name.decode().lower(), value.decode()) for name, value in start["headers"]]
    return Response(start["status"], joined(fields), b"".join(part.get("body", b"") for part in parts))


async def response_of(client: RawClient, *, body: bool) -> Response:
    async with asyncio.timeout(DEADLINE):
        status, *lines = (await client.head()).decode("latin-1").strip().split("\r\n")
        headers = joined([(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)])
        length = int(headers["content-length"]) if body else 0
        return Response(int(status.split()[1]), headers, await client.reader.readexactly(length))


def joined(fields: list[tuple[str, str]]) -> dict[str, str]:
    """Header fields by name; the values of one that was sent several times, as Set-Cookie is, are lines."""
    return {name: "\n".join(value for each, value in fields if each == name) for name, _ in fields}


async def messages_sent(app: Any, scope: dict[str, Any], message: dict[str, Any]) -> list[Any]:
    """What the application sends for a request that is this one message."""
    sent, coming = [], [message]

    async def receive() -> Any:
        return coming.pop() if coming else await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


class Browser:
    """Keeps cookies as a browser does, and sends them below their path only."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.cookies: dict[str, str] = {}
        self.paths: set[str] = set()

    async def get(self, target: str, **headers: str) -> Response:
        return await self._request(target, "GET", headers, b"")

    async def post(self, target: str, **fields: str) -> Response:
        """Submit a form with the token of the sign-in page, which redirects when signed in: then of another one."""
        page = await self.get(f"{PREFIX}/send_message/john" if self.signed_in else f"{PREFIX}/auth/login")
        token = re.search(rb'name="csrf_token"[^>]* value="([^"]+)"', page.body)
        assert token, page
        body = urlencode({"csrf_token": token[1].decode(), **fields}).encode()
        return await self._request(target, "POST", {"Content-Type": "application/x-www-form-urlencoded"}, body)

    @property
    def signed_in(self) -> bool:
        return any("session" in name for name in self.cookies)

    async def sign_in(self, name: str, **more: str) -> Response:
        return await self.post(f"{PREFIX}/auth/login", username=name, password=PASSWORD, **more)

    async def _request(self, target: str, method: str, headers: dict[str, str], body: bytes) -> Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        found = await self.ask(target, method, BROWSER | headers | ({"Cookie": cookie} if cookie else {}), body)
        for set_cookie in found.headers.get("set-cookie", "").splitlines():
            name, _, value = set_cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
            self.paths |= set(re.findall(r"Path=([^;]*)", set_cookie))
        return found


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/badge/", 200),
        ("/badge/auth/login", 200),
        ("/badge/docs", 200),
        ("/badge/openapi.json", 200),
        ("/badge/notifications", 401),
        ("/badge/api/v1/tokens", 401),
        ("/badge/user/susan", 303),
        ("/badge/healthz", 200),
        ("/badge/readyz", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/", 404),
        ("/auth/login", 404),
        ("/docs", 404),
        ("/openapi.json", 404),
        ("/notifications", 404),
        ("/api/v1/tokens", 404),
        ("/user/susan", 404),
        ("/badgefoo", 404),
        ("/badgefoo/auth/login", 404),
        ("/BADGE", 404),
        ("/BADGE/auth/login", 404),
        ("//badge", 404),
        ("//badge/auth/login", 404),
        ("/badge%2f", 404),
        ("/badge%2Fauth/login", 404),
        ("/%62adge/auth/login", 404),
        ("/x/badge/auth/login", 404),
        ("/badge/badge/auth/login", 404),
        ("/badge/../auth/login", 404),
        ("/badge/..%2fauth/login", 404),
        ("/badge/..", 404),
    ],
)
@pytest.mark.sqlite
async def test_only_paths_below_the_prefix_are_served(ask: Ask, target: str, status: int) -> None:
    assert (await ask(target)).status == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.sqlite
async def test_prefix_alone_leads_to_the_home_page(ask: Ask, method: str) -> None:
    for query in ("", "?a=b"):
        found = await ask(PREFIX + query, method)
        assert (found.status, found.headers["location"]) == (308, f"{PREFIX}/{query}")


@pytest.mark.sqlite
async def test_post_outside_the_prefix_is_not_found(ask: Ask) -> None:
    for target in ("/send_message/john", "/auth/login", "/api/v1/messages"):
        assert (await ask(target, "POST", body=b"a=b")).status == 404


@pytest.mark.sqlite
async def test_path_outside_names_the_prefix_and_is_logged_once(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    found = await ask("/auth/login")
    assert found.headers["content-type"] == "application/problem+json"
    assert json.loads(found.body)["detail"].endswith("begin with /badge/.")
    await ask("/auth/login")
    (logged,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert logged.startswith("request for '/auth/login', which is not below MICROBLOG_PATH_PREFIX=/badge: ")


async def test_everything_that_a_user_does_stays_below_the_prefix(ask: Ask, site: Site) -> None:
    """Redirects, links, forms, scripts, cookies, the count of a poll and what the API says."""
    susan, john = Browser(ask), Browser(ask)
    asked = await susan.get(f"{PREFIX}/messages?before=2.5")
    assert asked.headers["location"] == f"{PREFIX}/auth/login?next=/badge/messages?before%3D2.5"
    target = unquote(asked.headers["location"].partition("next=")[2])
    for browser, name in ((susan, "susan"), (john, "john")):
        signed_in = await browser.sign_in(name, next=target)
        assert (signed_in.status, signed_in.headers["location"]) == (303, target)
    site.passed_on.clear()
    sent = await susan.post(f"{PREFIX}/send_message/john", message="hello", nonce="n1")
    assert (sent.status, sent.headers["location"]) == (303, f"{PREFIX}/user/john#sent=n1")
    count = await john.get(f"{PREFIX}/notifications")
    assert [each["data"] for each in json.loads(count.body)] == [1]
    for path in ("/", "/messages", "/user/susan", "/auth/sessions", "/auth/tokens", "/send_message/susan", "/docs"):
        page = await john.get(PREFIX + path)
        assert page.status == 200, path
        links = [unescape(each) for each in ADDRESSES.findall(page.body.decode())]
        assert len(links) > 8
        assert [each for each in links if not each.startswith(f"{PREFIX}/")] == []
    assert f'data-notifications="{PREFIX}/notifications?user=' in page.body.decode()
    assert f'data-owner="{PREFIX}/' in (await john.get(f"{PREFIX}/send_message/susan")).body.decode()
    (script,) = re.findall(r'src="([^"]*/main.js)"', page.body.decode())
    assert (await john.get(script)).headers["cache-control"].endswith("immutable")
    read = await john.post(f"{PREFIX}/messages/read")
    assert (read.status, read.headers["location"]) == (303, f"{PREFIX}/messages")
    missing = await john.get(f"{PREFIX}/missing")
    assert (missing.status, f'href="{PREFIX}/"' in missing.body.decode()) == (404, True)
    out = await john.post(f"{PREFIX}/auth/logout")
    assert (out.status, out.headers["location"]) == (303, f"{PREFIX}/")
    assert susan.paths == john.paths == {PREFIX}


@pytest.mark.sqlite
async def test_edge_serves_polls_and_posts_below_the_prefix(site: Site) -> None:
    """Hypercorn gets neither, and a connection returns to the edge after a page."""
    cookie = await site.cookie(await site.user())
    async with raw_client(site.port) as client:
        for target in ("notifications?since=0", "notifications?since=1", "docs", "notifications"):
            await client.send(f"GET {PREFIX}/{target} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n".encode())
            assert (await response(client)).status == 200
        await client.send(f"GET /notifications HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n".encode())
        assert (await response(client)).status == 404
        await client.send(
            f"POST {PREFIX}/api/v1/messages HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        )
        assert (await response(client)).status == 401
    assert site.passed_on == [f"{PREFIX}/docs", "/notifications"]


@pytest.mark.sqlite
async def test_edge_sends_forms_below_the_prefix(site: Site) -> None:
    async def ask(target: str, method: str, headers: dict[str, str], body: bytes) -> Response:
        return await by_asgi(site.app, method, target, headers, body)

    susan = Browser(ask)
    await susan.sign_in("susan")
    page = await susan.get(f"{PREFIX}/send_message/john")
    token = re.search(rb'name="csrf_token"[^>]* value="([^"]+)"', page.body)
    assert token
    body = urlencode({"csrf_token": token[1].decode(), "message": "hello", "nonce": "n1"}).encode()
    headers = BROWSER | {"Cookie": "; ".join(f"{name}={value}" for name, value in susan.cookies.items())}
    headers |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    async with raw_client(site.port) as client:
        await client.send("\r\n".join([f"POST {PREFIX}/send_message/john HTTP/1.1", *lines, "", ""]).encode() + body)
        sent = await response(client)
    assert (sent.status, sent.headers["location"]) == (303, f"{PREFIX}/user/john#sent=n1")
    assert f"Path={PREFIX}" in sent.headers["set-cookie"]
    assert site.passed_on == []


HANDSHAKE = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


@pytest.mark.sqlite
async def test_websocket_is_accepted_below_the_prefix_only(site: Site) -> None:
    cookie, url = await site.cookie(await site.user()), f"http://{HOST}:{site.port}"
    async with websocket(url, cookie, f"{PREFIX}/notifications") as tab:
        assert json.loads(await tab.recv()) == []
    for target in ("/notifications", "/badge%2fnotifications", "//badge/notifications", PREFIX):
        with pytest.raises(InvalidStatus) as refused:
            await websocket(url, cookie, target)
        assert refused.value.response.status_code in (404, 308), target


@pytest.mark.sqlite
async def test_invalid_handshake_is_refused_as_without_a_prefix(site: Site) -> None:
    """By Hypercorn, after a page on the same connection and with a body."""
    lines = [f"POST {PREFIX}/notifications HTTP/1.1", f"Host: {HOST}", *HANDSHAKE, "", ""]
    async with raw_client(site.port) as client:
        await client.send("\r\n".join(lines).encode())
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.sqlite
async def test_asgi_websocket_outside_the_prefix_is_not_found(site: Site) -> None:
    headers = [(b"host", HOST.encode()), (b"cookie", (await site.cookie(await site.user())).encode())]
    for path, status in (("/notifications", 404), ("/badge", 404), ("/badge/notifications", 403)):
        scope = {"type": "websocket", "path": path, "query_string": b"", "headers": headers, "client": None}
        start, *_ = await messages_sent(site.app, scope, {"type": "websocket.connect"})
        assert start["status"] == status, path


@pytest.mark.parametrize(
    ("target", "followed"),
    [
        ("/badge/messages", True),
        ("/badge/messages?before=2.5#x", True),
        ("/badge/messages?next=/../x", True),
        ("/badge/", True),
        ("/badge//other.example/", True),
        ("/badge", False),
        ("/", False),
        ("/other", False),
        ("/badgefoo/", False),
        ("/BADGE/", False),
        ("//other.example/badge/", False),
        ("/\\other.example/badge/", False),
        ("https://other.example/badge/", False),
        ("/badge/../other", False),
        ("/badge/%2e%2E/other", False),
        ("/badge/.%2e/other", False),
        ("/badge/messages/../../other", False),
        ("/badge/..", False),
        ("/badge/..?a=b", False),
        ("/badge/..#a", False),
        ("/badge\\..\\other", False),
        ("/badge/\t../other", False),
    ],
)
@pytest.mark.sqlite
async def test_sign_in_leads_to_paths_of_this_site_only(site: Site, target: str, followed: bool) -> None:
    async def ask(target: str, method: str, headers: dict[str, str], body: bytes) -> Response:
        return await by_asgi(site.app, method, target, headers, body)

    found = await Browser(ask).sign_in("susan", next=target)
    assert (found.status, found.headers["location"]) == (303, target if followed else f"{PREFIX}/")


@pytest.mark.sqlite
async def test_repeated_slashes_lead_to_no_other_site(ask: Ask) -> None:
    for target in ("/badge//other.example/", "/badge///other.example", "/badge//auth/login"):
        found = await ask(target)
        location = found.headers.get("location", f"{PREFIX}/")
        assert location.removeprefix(f"http://{HOST}").startswith(f"{PREFIX}/"), (target, location)


@pytest.mark.parametrize(
    ("public_url", "name"),
    [("https://example.com", "__Secure-microblog_browser_badge"), ("http://intranet:81", "microblog_browser_81_badge")],
)
@pytest.mark.sqlite
async def test_cookies_have_the_path_and_another_name(settings: Settings, public_url: str, name: str) -> None:
    """Browsers refuse a ``__Host-`` cookie with a path."""
    app = create_app(replace(settings, path_prefix=PREFIX, public_url=public_url))
    host = public_url.partition("//")[2]
    page = await by_asgi(app, "GET", f"{PREFIX}/auth/login", BROWSER | {"Host": host}, b"")
    cookie = page.headers["set-cookie"]
    assert cookie.startswith(f"{name}=")
    assert {"HttpOnly", "SameSite=Lax", f"Path={PREFIX}"} <= set(cookie.split("; "))
    assert ("Secure" in cookie.split("; ")) == public_url.startswith("https")
    await app.extensions["services"].close()


@pytest.mark.sqlite
async def test_documents_and_challenge_name_the_prefix(ask: Ask) -> None:
    assert json.loads((await ask(f"{PREFIX}/openapi.json")).body)["servers"] == [{"url": PREFIX}]
    page = (await ask(f"{PREFIX}/docs")).body.decode()
    assert f'href="{PREFIX}/openapi.json"' in page
    assert f"<code>POST {PREFIX}/api/v1/messages</code>" in page
    refused = await ask(f"{PREFIX}/notifications")
    assert refused.headers["www-authenticate"] == f'Cookie realm="microblog-rt", form-action="{PREFIX}/auth/login"'
    refused = await ask(f"{PREFIX}/user/john", headers=BROWSER | {"Accept": "application/json"})
    assert f'form-action="{PREFIX}/auth/login"' in refused.headers["www-authenticate"]


@pytest.mark.sqlite
@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_documents_name_the_public_url(settings: Settings, prefix: str) -> None:
    app = create_app(replace(settings, path_prefix=prefix, public_url="https://example.com"))
    headers = {"Host": "example.com", "Accept": "text/html"}
    found = await by_asgi(app, "GET", f"{prefix}/openapi.json", headers, b"")
    assert json.loads(found.body)["servers"] == [{"url": f"https://example.com{prefix}"}]
    page = (await by_asgi(app, "GET", f"{prefix}/docs", headers, b"")).body.decode()
    assert f"https://example.com{prefix}/api/v1/messages" in page
    await app.extensions["services"].close()


@pytest.mark.sqlite
async def test_mounted_application_gets_the_path_from_its_server(site: Site) -> None:
    """Servers that mount it send the whole ``path``, and in ``root_path`` where it is mounted."""
    headers = [(b"host", HOST.encode())]
    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "scheme": "http", "method": "GET"}
    scope |= {"path": f"{PREFIX}/auth/login", "root_path": PREFIX, "query_string": b"", "headers": headers}
    start, *_ = await messages_sent(site.app, scope | {"client": None}, {"type": "http.request", "body": b""})
    assert start["status"] == 200

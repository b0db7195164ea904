"""Which requests change the database: every route, over http and https, compared by dumps of all tables.

The routes come from the application, so new ones are included. See also: ``tests/test_origins.py``.
"""

import asyncio
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
from quart import Quart, Response
from werkzeug.routing import Rule

from microblog_rt.accounts import session_name, token_hash
from microblog_rt.models import SCOPES, OneTimeLink, User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.storage import Transaction, links
from tests.conftest import PASSWORD
from tests.web.conftest import field, text

Dump = dict[str, list[dict[str, Any]]]

HTTP, HTTPS = "http://localhost", "https://microblog.example"
SAFE = ("GET", "HEAD", "OPTIONS")

pytestmark = pytest.mark.sqlite


@pytest.fixture(params=[HTTP, HTTPS])
def origin(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(settings: Settings, origin: str) -> Settings:
    return replace(
        settings,
        public_url=origin if origin == HTTPS else None,
        register_limit=None,
        smtp_url="smtp://127.0.0.1:1",  # to which nothing is sent
        mail_from="microblog@example.org",
    )


def dump(settings: Settings) -> Dump:
    """Every row of every table."""
    with closing(sqlite3.connect(str(settings.sqlite_file))) as database:
        database.row_factory = sqlite3.Row
        tables = [row["name"] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: [dict(row) for row in database.execute(f'SELECT * FROM "{table}"')] for table in tables}


class Route(NamedTuple):
    endpoint: str
    path: str


def routes(app: Quart, method: str, name: str) -> list[Route]:
    """The URL of every route that accepts ``method``, with ``name`` as the user."""
    addresses = app.url_map.bind("localhost")
    return [
        Route(rule.endpoint, addresses.build(rule.endpoint, parts(rule, name)))
        for rule in app.url_map.iter_rules()
        if method in (rule.methods or ()) and rule.endpoint not in NO_PAGES
    ]


def parts(rule: Rule, name: str) -> dict[str, Any]:
    """The variable parts of a URL; a token contains the endpoint, see ``add_links``."""
    known = {"filename": "rt/main.js", "number": 1, "token": f"{rule.endpoint}-{name}"}
    return {each: known.get(each, name) for each in rule.arguments}


LINKS = {"auth.reset_password": OneTimeLink.PASSWORD, "account.confirm_email": OneTimeLink.EMAIL}
NO_PAGES = {"metrics.numbers"}  # for operators only


@dataclass
class Browser:
    """A user's cookies and token, sent unchanged: cookies set by answers are ignored."""

    app: Quart
    origin: str
    cookies: dict[str, str]
    token: str = ""

    async def ask(self, method: str, path: str, headers: dict[str, str], form: dict[str, str]) -> Response:
        scheme, _, host = self.origin.partition("://")
        own = {
            "Accept": "text/html",
            "Host": host,
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
        }
        body: dict[str, Any] = {"form": form} if method == "POST" else {}
        client = self.app.test_client(use_cookies=False)
        return await client.open(path, method=method, headers=own | headers, scheme=scheme, **body)

    async def get(self, path: str) -> Response:
        return await self.ask("GET", path, {}, {})

    async def take_token(self, path: str) -> None:
        """The CSRF token of the form at ``path``, and its cookie."""
        answer = await self.get(path)
        name = self.app.config["BROWSER_COOKIE_NAME"]
        found = re.search(rf"{name}=([^;]+)", answer.headers["Set-Cookie"])
        assert found
        self.cookies[name] = found[1]
        self.token = field(await text(answer), "csrf_token")


async def signed_in(app: Quart, services: Services, origin: str, name: str) -> Browser:
    """The browser of that user, who is created if missing."""
    accounts = services.accounts
    user = await accounts.find(name) or await accounts.register(name, PASSWORD)
    await services.posts.post(user.id, "a post", "nonce")
    authentication = app.extensions["authentication"]
    await services.storage.write(lambda tx: add_links(tx, user))
    token = await services.sessions.start_session(user, remembered=True)
    browser = Browser(app, origin, {authentication.cookie_name: authentication.dump_token(f"{user.id}.{token}", app)})
    await browser.take_token(f"/send_message/{name}")
    return browser


def add_links(tx: Transaction, user: User) -> None:
    """The links in mails, whose tokens ``routes`` uses."""
    for endpoint, kind in LINKS.items():
        token = token_hash(f"{endpoint}-{user.username}")
        links.add(tx, kind, token, 3600 * MICROSECONDS, user.id, f"{user.username}@example.org")


def fields(route: Route, name: str) -> dict[str, str]:
    """Form fields with which a POST to any route changes something."""
    new = "a new one of mine" if "change" in route.endpoint else PASSWORD
    who = f"new-{name}" if route.endpoint == "auth.register" else name
    more = {"name": "test", "read_messages": "y", "expires": "90", "post": "hello", "display_name": "Susan"}
    if route.endpoint == "account.account":
        more["email"] = f"{name}@example.net"
    if route.endpoint == "people.seen":
        more["up_to"] = "1000"  # the newest post, which is newer than the account
    if "/messages/" in route.path:
        more |= {"person": "mallory", "from": "1"}
    return more | {"username": who, "message": "hello", "old_password": PASSWORD, "password": new, "password2": new}


def refusals(browser: Browser, other: Browser) -> Iterator[tuple[str, Browser, dict[str, str], str | None]]:
    """Cross-site requests: a description, the cookies, the headers, the token."""
    good = {"Origin": browser.origin}
    yield "without a token", browser, good, None
    yield "with an empty token", browser, good, ""
    yield "with a made-up token", browser, good, "x" * 32
    yield "with another browser's token", browser, good, other.token
    yield "with another browser's in the header", browser, {**good, "X-CSRFToken": other.token}, None
    session_alone = {name: value for name, value in browser.cookies.items() if "session" in name}
    for token in (browser.token, "", None):
        yield f"with {token!r}, without the token's cookie", replace(browser, cookies=session_alone), good, token
    scheme, _, host = browser.origin.partition("://")
    other_scheme = f"{'http' if scheme == 'https' else 'https'}://{host}"
    for origin in ("https://evil.example", "null", "", other_scheme, f"{browser.origin}:8000"):
        yield f"from {origin!r}", browser, {"Origin": origin}, browser.token
    yield "from nowhere", browser, {}, browser.token
    yield "with only a referrer of ours", browser, {"Referer": f"{browser.origin}/messages"}, browser.token
    for site in ("cross-site", "same-site"):
        yield f"{site}, says the browser", browser, {**good, "Sec-Fetch-Site": site}, browser.token
        yield f"{site}, from nowhere", browser, {"Sec-Fetch-Site": site}, browser.token


async def test_cross_site_posts_change_nothing(app: Quart, services: Services, settings: Settings, origin: str) -> None:
    other = await signed_in(app, services, origin, "mallory")
    found = routes(app, "POST", "susan")
    assert len(found) >= 5
    for number, route in enumerate(found):
        name = f"susan{number}"
        browser = await signed_in(app, services, origin, name)
        user = await services.accounts.find(name)
        assert user
        await services.messages.send_message(1, user.id, "something to be marked as unread")
        await services.messages.mark_read(user.id)
        await services.messages.send_message(1, user.id, "something to be read")
        another = await services.sessions.start_session(user, remembered=True)  # to be ended
        await services.posts.post(1, f"@{name}")
        await services.deliveries.deliver_all()  # before the dump
        # A user can follow only another one.
        path = route.path.replace("susan", "mallory" if "follow" in route.endpoint else name)
        if route.endpoint == "people.unfollow":
            await services.posts.follow(user.id, await services.accounts.known("mallory"))
        await services.tokens.add(user, "to be revoked", SCOPES)
        (token_row,) = await services.tokens.of_user(user.id)
        form = fields(route, name) | {"session": session_name(token_hash(another)), "token": token_row.id}
        before = dump(settings)
        for why, sender, headers, token in refusals(browser, other):
            sent = form if token is None else {**form, "csrf_token": token}
            answer = await sender.ask("POST", path, headers, sent)
            assert answer.status_code == 403, (route, why)
            assert dump(settings) == before, (route, why)
            assert "_preferences" not in "".join(answer.headers.getlist("Set-Cookie")), (route, why)
        answer = await browser.ask("POST", path, {"Origin": origin}, {**form, "csrf_token": browser.token})
        # A new token is shown at once.
        expected = 200 if route.endpoint == "auth.tokens" else 303
        assert answer.status_code == expected, (route, "the precondition", await text(answer))
        if route.endpoint == "footer.set_preferences":  # a cookie is all that it changes
            assert "_preferences" in answer.headers["Set-Cookie"]
        else:
            assert dump(settings) != before, (route, "the precondition")


@pytest.mark.parametrize("method", ["DELETE", "FOO", "PATCH", "PUT", "TRACE"])
async def test_no_other_method_changes_anything(
    app: Quart, services: Services, settings: Settings, origin: str, method: str
) -> None:
    browser = await signed_in(app, services, origin, "susan")
    before = dump(settings)
    for route in routes(app, "GET", "susan") + routes(app, "POST", "susan"):
        headers = {"Origin": origin, "X-CSRFToken": browser.token}
        for sent in (headers, {}):
            answer = await browser.ask(method, route.path, sent, {})
            assert answer.status_code == 405, route
            assert "GET" in answer.headers["Allow"] or "POST" in answer.headers["Allow"], route
    assert dump(settings) == before


async def walk(app: Quart, browser: Browser, method: str) -> None:
    """Request every route and the feed."""
    feed = Route("feed", "/notifications?wait=0.01")
    for route in [*routes(app, method, "susan"), feed]:
        if not (method == "OPTIONS" and route is feed):
            answer = await browser.ask(method, route.path, {}, {})
            assert answer.status_code < 400, (route, method, "the precondition")
            assert "/auth/login" not in answer.headers.get("Location", ""), (route, method, "the precondition")


@pytest.mark.parametrize("method", SAFE)
async def test_safe_methods_change_nothing(
    app: Quart, services: Services, settings: Settings, origin: str, method: str
) -> None:
    browser = await signed_in(app, services, origin, "susan")
    await services.messages.send_message(1, 1, "something to be read")
    before = dump(settings)
    assert len(before["session"]) == 1
    await walk(app, browser, method)
    assert dump(settings) == before


async def test_get_stores_only_the_session_use_and_once(
    app: Quart, services: Services, settings: Settings, origin: str
) -> None:
    browser = await signed_in(app, services, origin, "susan")
    make_it_two_minutes_ago(settings)
    before = dump(settings)
    await browser.get("/messages")
    noted = dump(settings)
    assert noted["session"] != before["session"]
    assert without_use(noted) == without_use(before)
    await walk(app, browser, "GET")
    assert dump(settings) == noted


def make_it_two_minutes_ago(settings: Settings) -> None:
    with closing(sqlite3.connect(str(settings.sqlite_file))) as database, database:
        database.execute("UPDATE session SET last_used = last_used - 120000000")


def without_use(dumped: Dump) -> Dump:
    """The dump without the times at which sessions were last used and expire."""
    sessions = [row | {"last_used": None, "expires": None} for row in dumped["session"]]
    return dumped | {"session": sessions}


async def test_duplicate_send_of_disconnected_client_logs_nothing(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    await services.accounts.register("susan", PASSWORD)
    await services.messages.send_message(1, 1, "hello", "nonce")
    caplog.clear()
    sending = asyncio.create_task(services.messages.send_message(1, 1, "hello", "nonce"))
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait({sending})
    await services.accounts.forget_expired()  # a later write: by then the duplicate has been rolled back
    assert sending.cancelled()
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]

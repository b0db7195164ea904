"""With an https ``MICROBLOG_PUBLIC_URL``: Secure cookies, HSTS, and only that Origin."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from microblog_rt.app import create_app
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from tests.conftest import PASSWORD
from tests.web.conftest import Browser

HOST = {"Host": "microblog.example"}
HTTP = "http://intranet:8000"
FOREIGN = "origin_foreign"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, public_url="https://microblog.example")


async def test_cookies_are_secure_and_bound_to_the_host(app: Quart) -> None:
    browser = Browser(app.test_client())
    answer = await browser.get("/auth/login", scheme="https", headers=HOST)
    set_cookie = answer.headers["Set-Cookie"]
    assert set_cookie.startswith("__Host-")
    for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert word in set_cookie
    assert "Domain" not in set_cookie
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


ASKED = [
    (200, "http", "/notifications", "microblog.example", "GET"),
    (401, "http", "/notifications", "microblog.example", "HEAD"),
    (400, "http", "/notifications", "evil.example", "GET"),
    (405, "http", "/notifications", "microblog.example", "PUT"),
    (400, "http", "/", "a..b", "GET"),
    (403, "websocket", "/notifications", "microblog.example", "GET"),
    (404, "websocket", "/", "microblog.example", "GET"),
    (500, "http", "/notifications", "microblog.example", "GET"),
    (500, "websocket", "/notifications", "microblog.example", "GET"),
]


@pytest.mark.sqlite
async def test_feed_responses_have_hsts(app: Quart, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    susan = await services.accounts.register("susan", PASSWORD)
    token = await services.sessions.start_session(susan, remembered=True)
    authentication = app.extensions["authentication"]
    cookie = f"{authentication.cookie_name}={authentication.dump_token(f'{susan.id}.{token}', app)}"
    for status, kind, path, host, method in ASKED:
        headers = [(b"host", host.encode())]
        if status in (200, 403):
            headers.append((b"cookie", cookie.encode()))
        if status == 500:
            monkeypatch.setattr(authentication, "authenticate", breaks)
        scope = {"type": kind, "method": method, "path": path, "query_string": b"", "headers": headers}
        start = await answer_to(app, scope)
        assert start["status"] == status, (kind, path, host, method)
        assert dict(start["headers"])[b"strict-transport-security"] == b"max-age=31536000", status


def breaks(*_: object) -> None:
    raise RuntimeError("broken on purpose")


async def answer_to(app: Quart, scope: dict[str, Any]) -> Any:
    """The first ASGI message of the answer."""
    sent: list[Any] = []
    coming = ["websocket.connect" if scope["type"] == "websocket" else "http.request"]

    async def receive() -> Any:
        return {"type": coming.pop(), "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await app.asgi_app({**scope, "client": ("127.0.0.1", 1)}, receive, send)  # type: ignore[arg-type]
    return sent[0]


async def test_only_the_public_origin_may_post(app: Quart) -> None:
    browser = Browser(app.test_client())
    for origin in ("http://localhost", "http://microblog.example", "https://microblog.example:8443"):
        answer = await browser.post("/auth/login", csrf_token="x", headers={"Origin": origin} | HOST)
        assert answer.status_code == 403
        assert "form" not in (await answer.get_data(as_text=True)).split("<main")[1].split("</main>")[0]


async def test_http_public_url_has_neither_secure_cookies_nor_hsts(services: Services, settings: Settings) -> None:
    """On a network without certificates; the Origin is still exactly that one."""
    app = create_app(replace(settings, public_url=HTTP))
    browser = Browser(app.test_client())
    answer = await browser.get("/auth/login", headers={"Host": "intranet:8000"})
    assert answer.headers["Set-Cookie"].startswith("microblog_browser_8000=")
    assert "Secure" not in answer.headers["Set-Cookie"]
    assert "Strict-Transport-Security" not in answer.headers
    for origin, code in ((HTTP, "csrf_missing"), ("http://intranet", FOREIGN), ("https://intranet:8000", FOREIGN)):
        headers = {"Origin": origin, "Host": "intranet:8000", "Accept": "application/json"}
        refusal = await (await app.test_client().post("/messages/read", headers=headers)).get_json()
        assert refusal["code"] == code
    await app.extensions["services"].close()


@pytest.mark.sqlite
async def test_instances_on_one_host_keep_their_own_cookies(settings: Settings, tmp_path: Path) -> None:
    """Browsers send cookies to every port of a host."""
    assert settings.sqlite_file
    other = shutil.copyfile(settings.sqlite_file, tmp_path / "other.db")
    plain = replace(settings, public_url=None)
    apps = [create_app(plain), create_app(replace(plain, database_url=f"sqlite+aiosqlite:///{other}"))]
    jar: dict[str, str] = {}
    for app in apps:
        await app.extensions["services"].accounts.register("susan", PASSWORD)
        browser = Browser(app.test_client())
        for name, value in jar.items():
            browser.client.set_cookie("localhost", name, value)
        answer = await browser.post("/auth/login", username="susan", password=PASSWORD)
        assert answer.status_code == 303
        jar |= {each.name: str(each.value) for each in browser.client.cookie_jar or []}
    assert len([name for name in jar if "session" in name]) == 2
    for app in apps:
        client = app.test_client()
        for name, value in jar.items():
            client.set_cookie("localhost", name, value)
        answer = await client.get("/notifications")
        assert answer.status_code == 200
        assert "Set-Cookie" not in (await client.get("/user/susan")).headers
        await app.extensions["services"].close()


@pytest.mark.sqlite
async def test_cookie_with_a_foreign_signature_is_left_alone(settings: Settings) -> None:
    app = create_app(replace(settings, public_url=None))
    client = app.test_client()
    for name in (app.extensions["authentication"].cookie_name, app.config["SESSION_COOKIE_NAME"]):
        client.set_cookie("localhost", name, "signed.by.another")
    answer = await client.get("/auth/login")
    assert [each for each in answer.headers.getlist("Set-Cookie") if "_browser" not in each] == []
    await app.extensions["services"].close()


def test_application_can_be_created_twice(settings: Settings) -> None:
    assert create_app(settings) is not create_app(settings)

"""Part A, line 2: a NUL character is refused at the boundary, the same on both databases."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from quart import Quart

from microblog_rt.app import create_app
from microblog_rt.errors import InvalidText
from microblog_rt.models import User
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from tests.conftest import PASSWORD
from tests.web.conftest import ORIGIN, Browser


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(settings)
    async with app.test_app():
        yield app


@pytest.fixture
def stranger(app: Quart) -> Browser:
    return Browser(app.test_client())


@pytest.fixture
async def bob(app: Quart) -> Browser:
    bob = Browser(app.test_client())
    assert (await bob.register("bob")).status_code == 303
    return bob


async def refusal(browser: Browser, path: str, **fields: str) -> tuple[int, str]:
    """The status and the code of a request; a form if there are fields."""
    if fields:
        body = urlencode({"csrf_token": await browser.token(), **fields})
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        headers = {"Origin": ORIGIN, "Accept": "application/json", **form}
        answer = await browser.client.post(path, data=body, headers=headers)
    else:
        answer = await browser.client.get(path, headers={"Accept": "application/json"})
    return answer.status_code, (await answer.get_json())["code"]


REFUSED = (400, "invalid_text")
PATHS = [
    "/user/%00",
    "/user/bob%00",
    "/send_message/a%00b",
    "/static/%00",
    "/nothing%00",
    "/?after=%00",
    "/messages?before=%00",
    "/auth/login?next=/%00",
    "/notifications?name=%00",
    "/notifications?since=0&user=%00",
]


async def test_nul_in_path_or_query_is_refused(stranger: Browser, bob: Browser) -> None:
    for path in PATHS:
        assert await refusal(stranger, path) == REFUSED, path
        assert await refusal(bob, path) == REFUSED, path


FORMS = {
    "/auth/login": {"username": "a\0", "password": PASSWORD},
    "/auth/register": {"username": "susan", "email": "a\0@b.example", "password": PASSWORD, "password2": PASSWORD},
    "/auth/change_password": {"old_password": PASSWORD, "password": "\0" * 9, "password2": "\0" * 9},
    "/auth/sessions/end": {"session": "\0"},
    "/send_message/bob": {"message": "a\0b"},
    "/send_message/susan": {"message": "hello", "nonce": "\0"},
    "/messages/read": {"unknown\0": "1"},
}


async def test_nul_in_a_field_is_refused(stranger: Browser, bob: Browser) -> None:
    for path, fields in FORMS.items():
        for browser in (stranger, bob):
            assert await refusal(browser, path, **fields) == REFUSED, path


async def test_nul_in_a_header_is_refused(app: Quart) -> None:
    """Hypercorn refuses it earlier; another ASGI server may not."""
    for header in ((b"cookie", b"microblog_session=\0"), (b"user-agent", b"\0")):
        for path in ("/", "/notifications"):
            sent = await asgi_answer(app, path, [(b"host", b"localhost"), (b"accept", b"application/json"), header])
            assert (sent[0]["status"], b"invalid_text" in sent[1]["body"]) == (400, True)


async def asgi_answer(app: Quart, path: str, headers: list[tuple[bytes, bytes]]) -> list[Any]:
    sent: list[Any] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        return next(received, None) or await asyncio.get_running_loop().create_future()

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": None,
    }
    await app.asgi_app(scope, receive, send)  # type: ignore[arg-type]
    return sent


async def test_escaped_nul_in_a_cookie_signs_nobody_in(app: Quart, stranger: Browser) -> None:
    """Werkzeug decodes it. The cookies are signed or have a format, so it reaches no database."""
    settings = [app.config[f"{each}_COOKIE_NAME"] for each in ("BROWSER", "DEVICE", "SESSION")]
    names = (app.extensions["authentication"].cookie_name, *settings, "another")
    cookie = "; ".join(f'{name}="a\\000b"' for name in names)
    answer = await stranger.client.get("/", headers={"Cookie": cookie})
    assert answer.status_code == 200
    answer = await stranger.client.get("/notifications", headers={"Cookie": cookie})
    assert answer.status_code == 401


async def test_other_callers_are_refused_by_the_storage(services: Services, susan: User) -> None:
    """Commands, and applications that use the services."""
    for text in ("a\0", "a\ud800", "\udfff"):
        with pytest.raises(InvalidText):
            await services.accounts.find(text)
        with pytest.raises(InvalidText):
            await services.notifications.add_notification(susan.id, text, None)
        with pytest.raises(InvalidText):
            await services.messages.send_message(susan.id, susan.id, f"hello {text}.")
        notification = await services.notifications.add_notification(susan.id, "weather", text)
        assert notification.data == text, "JSON escapes it"
    assert await services.messages.send_message(susan.id, susan.id, "hello")

"""The application in process, and test browsers."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from html import unescape
from typing import Any

import pytest
from quart import Quart, Response
from quart.typing import TestClientProtocol

from microblog_rt.app import create_app
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from tests.conftest import PASSWORD, PATIENT

ORIGIN = "http://localhost"
HEADERS = {"Origin": ORIGIN, "Accept": "text/html, */*;q=0.8"}  # as a browser submits a form


class Browser:
    """One browser: cookies, the token out of the last form, and the last page."""

    def __init__(self, client: TestClientProtocol) -> None:
        self.client = client

    async def get(self, path: str, **more: Any) -> Response:
        return await self.client.get(path, **more)

    async def post(self, path: str, /, headers: dict[str, str] | None = None, **fields: Any) -> Response:
        """Post a form with this browser's token; ``csrf_token=None`` leaves it out."""
        if "csrf_token" not in fields:
            fields["csrf_token"] = await self.token()
        form = {name: value for name, value in fields.items() if value is not None}
        return await self.client.post(path, form=form, headers=HEADERS | (headers or {}))

    async def token(self) -> str:
        answer = await self.client.get("/auth/login", follow_redirects=True)
        return field(await text(answer), "csrf_token")

    async def register(self, name: str, **more: str) -> Response:
        fields: dict[str, Any] = {"username": name, "password": PASSWORD, "password2": PASSWORD, **more}
        return await self.post("/auth/register", **fields)


async def text(answer: Response) -> str:
    return str(await answer.get_data(as_text=True))


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}"[^>]*value="([^"]*)"', page)
    assert found, f"no field {name} in {page}"
    return unescape(found[1])


def link(page: str, rel: str) -> str:
    """The address of the page before ("prev") or after ("next")."""
    found = re.search(rf'rel="{rel}" href="([^"]*)"', page)
    assert found, f"no link {rel} in {page}"
    return unescape(found[1])


def shown(page: str) -> list[str]:
    """The texts of the messages on the page."""
    return [unescape(each) for each in re.findall(r'<p class="text">([^<]*)</p>', page)]


def badge(page: str) -> str:
    found = re.search(r'id="message_count"[^>]*>([^<]*)<', page)
    assert found, page
    return found[1]


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(settings, PATIENT)
    async with app.test_app():
        yield app


@pytest.fixture
def services(app: Quart) -> Services:
    services: Services = app.extensions["services"]
    return services


@pytest.fixture
def stranger(app: Quart) -> Browser:
    return Browser(app.test_client())


Join = Callable[[str], Awaitable[Browser]]


@pytest.fixture
def join(app: Quart) -> Join:
    async def joined(name: str) -> Browser:
        browser = Browser(app.test_client())
        answer = await browser.register(name)
        assert answer.status_code == 303, await text(answer)
        return browser

    return joined

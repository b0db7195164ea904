"""Several secret keys: the first signs, all verify."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from quart import Quart

from microblog_rt.app import create_app
from microblog_rt.keys import split_keys
from microblog_rt.settings import Settings
from tests.conftest import PASSWORD
from tests.web.conftest import HEADERS, Browser

OLD, NEW = "the-old-key-of-this-site", "the-new-key-of-this-site"


@asynccontextmanager
async def serving(settings: Settings, keys: str) -> AsyncIterator[Quart]:
    app = create_app(replace(settings, secret_key=keys))
    async with app.test_app():
        yield app


def browser_with(app: Quart, cookies: dict[str, str]) -> Browser:
    browser = Browser(app.test_client())
    for name, value in cookies.items():
        browser.client.set_cookie("localhost", name, value)
    return browser


async def polls(app: Quart, cookies: dict[str, str]) -> int:
    return int((await browser_with(app, cookies).get("/notifications")).status_code)


async def posts(app: Quart, cookies: dict[str, str], token: str) -> int:
    answer = await browser_with(app, cookies).client.post("/messages/read", form={"csrf_token": token}, headers=HEADERS)
    return int(answer.status_code)


@pytest.mark.sqlite
async def test_sessions_and_forms_outlive_a_change_of_keys(settings: Settings) -> None:
    async with serving(settings, OLD) as app:
        browser = Browser(app.test_client())
        await browser.register("susan", password=PASSWORD)
        await browser.get("/messages")
        token = await browser.token()
        cookies = {each.name: str(each.value) for each in browser.client.cookie_jar or []}
    for keys in (f"{NEW},{OLD}", f"{OLD} {NEW}"):
        async with serving(settings, keys) as app:
            assert (await polls(app, cookies), await posts(app, cookies, token)) == (200, 303)
    async with serving(settings, NEW) as app:
        assert (await polls(app, cookies), await posts(app, cookies, token)) == (401, 403)


@pytest.mark.sqlite
async def test_first_key_signs(settings: Settings) -> None:
    async with serving(settings, f"{NEW},{OLD}") as app:
        browser = Browser(app.test_client())
        await browser.register("susan", password=PASSWORD)
        cookies = {each.name: str(each.value) for each in browser.client.cookie_jar or []}
    async with serving(settings, NEW) as app:
        assert await polls(app, cookies) == 200
    async with serving(settings, OLD) as app:
        assert await polls(app, cookies) == 401


@pytest.mark.parametrize("text", [f"{OLD},{NEW}", f"{OLD} {NEW}", f"{OLD}, {NEW}", f"\t{OLD}\n{NEW}\r\n"])
def test_commas_and_spaces_separate_keys(text: str) -> None:
    assert split_keys(text) == [OLD, NEW]

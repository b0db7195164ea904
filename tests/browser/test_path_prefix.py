"""Below ``/badge/`` of another site, in Chromium: our pages, and our badge on a page of the other site."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests import npm_package
from tests.browser.browser_users import RECORDER, TIMEOUT, BrowserUser
from tests.other_site import ENVIRON, PREFIX, OtherSite
from tests.server_process import Person, Server
from tests.token_users import token_user

PAGE = """<!doctype html><title>Another site</title>
<script type="module" src="/node_modules/microblog-rt/unread_badge.js"></script>
<unread-badge url="/badge" cookies></unread-badge>
<unread-badge url="URL" token="TOKEN"></unread-badge>
"""


@pytest.fixture
def environ() -> dict[str, str]:
    return ENVIRON


@pytest.fixture
def site(server: Server, tmp_path: Path) -> Iterator[OtherSite]:
    folder = tmp_path / "nginx"
    folder.mkdir()
    with OtherSite(folder, server) as site:
        yield site


@pytest.fixture
def alice(site: OtherSite) -> Iterator[Person]:
    alice = site.person("alice")
    yield alice
    alice.close()


@pytest_asyncio.fixture(loop_scope="session")
async def bob(chromium: Browser, site: OtherSite) -> AsyncIterator[BrowserUser]:
    """A browser; it must report no script error."""
    context = await chromium.new_context(base_url=site.root)
    context.set_default_timeout(TIMEOUT)
    failures: list[str] = []
    context.on("weberror", lambda error: failures.append(str(error.error)))
    await context.add_init_script(RECORDER)
    yield BrowserUser(context)
    await context.close()
    assert failures == []


async def test_two_tabs_show_0_1_2_0_and_request_nothing_else(bob: BrowserUser, alice: Person, site: OtherSite) -> None:
    requested: list[str] = []
    bob.context.on("request", lambda request: requested.append(request.url))
    bob.context.on("page", lambda page: page.on("websocket", lambda socket: requested.append(socket.url)))
    first = await bob.tab(f"{PREFIX}/auth/login?next={PREFIX}/user/alice")
    await first.page.fill("[name=username]", "bob")
    await first.page.fill("[name=password]", site.password)
    await first.page.click("#submit")
    await expect(first.page).to_have_url(f"{site.url}/user/alice")
    second = await bob.tab(f"{PREFIX}/user/bob")
    for count in (0, 1, 2):
        if count:
            await asyncio.to_thread(alice.send, "bob", f"message {count}")
        for tab in (first, second):
            await tab.wait_for_badge(count)
    await first.page.goto(f"{PREFIX}/messages?list=received")
    for tab in (first, second):
        await tab.wait_for_badge(0)
    assert await second.history() == ["", "1", "2", ""]
    await first.page.goto(f"{PREFIX}/send_message/alice")
    await first.page.fill("[name=message]", "an answer")
    await first.page.click("#submit")
    await expect(first.page).to_have_url(f"{site.url}/user/alice")
    paths = {urlsplit(url).path for url in requested}
    assert [path for path in paths if not path.startswith(f"{PREFIX}/")] == []
    assert {f"{PREFIX}/notifications", f"{PREFIX}/messages/read", f"{PREFIX}/send_message/alice"} <= paths
    assert any(url.startswith("ws:") for url in requested)
    cookies = await bob.context.cookies()
    assert {cookie["path"] for cookie in cookies} == {PREFIX}
    assert len(cookies) == 3, "of the session, the browser and the device"
    await first.page.click(f"form[action='{PREFIX}/auth/logout'] button")
    await second.wait_for_sign_out()


async def test_badge_on_a_page_of_the_other_site_shows_0_1_0(
    bob: BrowserUser, alice: Person, site: OtherSite, server: Server
) -> None:
    """With the session of the user who is signed in below the path, and with a token and the address in full."""
    npm_package.install(npm_package.pack(site.site), site.site)
    token = (await asyncio.to_thread(token_user, server, "notifications:read", name="bob")).token
    (site.site / "page.html").write_text(PAGE.replace("URL", site.url).replace("TOKEN", token))
    signed_in = await bob.context.new_page()
    await signed_in.goto(f"{PREFIX}/auth/login")
    await signed_in.fill("[name=username]", "bob")
    await signed_in.fill("[name=password]", site.password)
    await signed_in.click("#submit")
    await expect(signed_in.locator("#message_count")).to_be_hidden()
    page = await bob.context.new_page()
    await page.goto("/page.html")
    badges = page.locator("unread-badge")
    for number in (0, 1):
        await expect(badges.nth(number)).to_have_attribute("state", "online")
        await expect(badges.nth(number).locator("[part=badge]")).to_be_hidden()
    await asyncio.to_thread(alice.send, "bob", "hello")
    for number in (0, 1):
        await expect(badges.nth(number).locator("[part=badge]")).to_have_text("1")
    await signed_in.goto(f"{PREFIX}/messages?list=received")
    for number in (0, 1):
        await expect(badges.nth(number).locator("[part=badge]")).to_be_hidden()

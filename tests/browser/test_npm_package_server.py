"""The npm package in a page of another origin, with an access token of a real server."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests import npm_package
from tests.browser.browser_users import TIMEOUT
from tests.browser.site import Site
from tests.server_process import Server

SCRIPT = '<script type="module" src="/node_modules/microblog-rt/unread_badge.js"></script>'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    npm_package.install(npm_package.pack(folder), folder)
    with Site(folder) as site:
        yield site


@pytest.fixture
def environ(site: Site) -> dict[str, str]:
    return {"MICROBLOG_ALLOWED_ORIGINS": site.url}


async def test_badge_of_another_site_shows_0_1_2_3_0(chromium: Browser, site: Site, server: Server) -> None:
    token = _command(server, "token", "add", "bob", "--scope", "notifications:read").strip()
    context = await chromium.new_context()
    context.set_default_timeout(TIMEOUT)
    page = await context.new_page()
    accepts: list[str] = []
    page.on("request", lambda request: accepts.append(request.headers.get("accept", "")))
    element = f'<unread-badge url="{server.url}" token="{token}"></unread-badge>'
    await page.goto(site.write("badge.html", SCRIPT + element))
    badge, number = page.locator("unread-badge"), page.locator("unread-badge [part=badge]")
    await expect(badge).to_have_attribute("state", "online")
    await expect(number).to_be_hidden()
    alice, bob = server.person("alice"), server.person("bob")
    for count in (1, 2, 3):
        await asyncio.to_thread(alice.send, "bob", f"message {count}")
        await expect(number).to_have_text(str(count))
    await asyncio.to_thread(bob.post, "/messages/read")
    alice.close()
    bob.close()
    await expect(number).to_be_hidden()
    assert [accept for accept in accepts if "application/json" in accept] == [], "server-sent events only"
    (token_id, *_) = _command(server, "token", "list", "bob").split("\t")
    _command(server, "token", "revoke", token_id)
    await expect(badge).to_have_attribute("state", "signed-out")
    await context.close()


def _command(server: Server, *words: str) -> str:
    command = [sys.executable, "-m", "microblog_rt", *words]
    return subprocess.run(command, cwd=server.folder, check=True, capture_output=True, text=True).stdout

"""The recipe docs/recipes/own_users.md: its Flask and Django sites as they are printed, beside a server of ours."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from microblog_rt import files
from tests.http_client import DEADLINE, websocket
from tests.ports import free_port
from tests.server_process import Server
from tests.site_tokens import SECRET

RECIPE = (files.CHECKOUT / "docs" / "recipes" / "own_users.md").read_text()
FLASK, DJANGO = re.findall(r"^```python\n(.+?)^```", RECIPE, re.MULTILINE | re.DOTALL)
(DJANGO_COMMANDS,) = re.findall(r"^```sh\n(.+?)^```", RECIPE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, environ={"MICROBLOG_JWT_KEY": SECRET}) as server:
        yield server
    assert server.warnings_logged() == []


class Shop:
    """A site of the recipe, as it is printed, in a folder of its own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._environ = os.environ | {
            "BADGE_URL": server.url,
            "BADGE_SECRET": SECRET,
            "SHOP_SECRET": "x",
            "BADGE_RT": str(files.STATIC / "rt"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    @contextmanager
    def served(self, script: str, *command: str) -> Iterator[None]:
        """Run ``command``, which serves the script ``shop.py``."""
        (self._folder / "shop.py").write_text(script)
        log, until = self._folder / "shop.log", time.monotonic() + DEADLINE
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=self._folder, env=self._environ, stdout=output, stderr=output, start_new_session=True
            )
        try:
            while True:
                try:
                    httpx.get(self.url, timeout=DEADLINE)
                    break
                except httpx.TransportError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < until, log.read_text()
                    time.sleep(0.05)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(DEADLINE)


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Shop:
    return Shop(server, tmp_path)


async def test_own_users_of_a_flask_site_see_what_it_publishes(server: Server, shop: Shop) -> None:
    command = [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(shop.port)]
    with shop.served(FLASK, *command):
        async with httpx.AsyncClient(base_url=shop.url, timeout=DEADLINE) as browser:
            await order(browser, 2)  # before her first visit
            await browser.post("/login", data={"name": "maria"})
            await check_badge(server, browser, "maria")


async def test_own_users_of_a_django_site_see_what_it_publishes(server: Server, shop: Shop) -> None:
    assert "127.0.0.1:8001" in DJANGO_COMMANDS
    with shop.served(DJANGO, "bash", "-euc", DJANGO_COMMANDS.replace("8001", str(shop.port))):
        async with httpx.AsyncClient(base_url=shop.url, timeout=DEADLINE, follow_redirects=True) as browser:
            await order(browser, 2)  # before her first visit
            assert "Sign in" in (await browser.get("/")).text
            fields = {
                "username": "maria",
                "password": "frog in a bog",
                "csrfmiddlewaretoken": browser.cookies["csrftoken"],
            }
            wrong = await browser.post("/login", data=fields | {"password": "frog"})
            assert "correct username and password" in wrong.text
            await browser.post("/login", data=fields)
            await check_badge(server, browser, "u1")


async def order(browser: httpx.AsyncClient, count: int) -> None:
    assert (await browser.post("/orders/maria", data={"count": str(count)})).status_code == 204


async def check_badge(server: Server, browser: httpx.AsyncClient, subject: str) -> None:
    """The signed-in browser has a page with the badge, whose token receives what the site has published."""
    page = (await browser.get("/")).text
    assert f'<unread-badge url="{server.url}" name="orders">' in page
    assert (await browser.get("/rt/unread_badge.js")).headers["Content-Type"].startswith("text/javascript")
    token = (await browser.get("/badge-token")).text
    headers = {"Authorization": f"Bearer {token}"}
    async with websocket(server.url, "", "/notifications?name=orders", headers, None) as tab:
        received = json.loads(await tab.recv())
        await order(browser, 3)
        received += json.loads(await tab.recv())
        assert [(each["name"], each["data"]) for each in received] == [("orders", 2), ("orders", 3)]
    url = f"{server.url}/api/v1/users/{subject}/notifications/orders"
    sent = await browser.put(url, json={"data": 0}, headers=headers)
    assert sent.status_code == 403  # the token in the page cannot publish

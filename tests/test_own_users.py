"""The recipe docs/recipes/own_users.md: its Flask site as it is printed, beside a server of ours."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from microblog_rt import files
from tests.http_client import DEADLINE, websocket
from tests.ports import free_port
from tests.server_process import Server
from tests.site_tokens import SECRET

RECIPE = files.CHECKOUT / "docs" / "recipes" / "own_users.md"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, environ={"MICROBLOG_JWT_KEY": SECRET}) as server:
        yield server
    assert server.warnings_logged() == []


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Iterator[str]:
    """The address of the recipe's site."""
    (script,) = re.findall(r"```python\n(.+?)```", RECIPE.read_text(), re.DOTALL)
    (tmp_path / "shop.py").write_text(script)
    port, log = free_port(), tmp_path / "shop.log"
    environ = {
        "BADGE_URL": server.url,
        "BADGE_SECRET": SECRET,
        "SHOP_SECRET": "x",
        "BADGE_RT": str(files.STATIC / "rt"),
    }
    command = [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | environ, stdout=output, stderr=output)
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + DEADLINE
    try:
        while True:
            try:
                httpx.get(url)
                break
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(DEADLINE)


async def test_own_users_of_a_flask_site_see_what_it_publishes(server: Server, shop: str) -> None:
    async with httpx.AsyncClient(base_url=shop, timeout=DEADLINE) as browser:
        assert (await browser.post("/orders/maria", data={"count": "2"})).status_code == 204  # before her first visit
        await browser.post("/login", data={"name": "maria"})
        page = (await browser.get("/")).text
        assert f'<unread-badge url="{server.url}" name="orders">' in page
        assert (await browser.get("/rt/unread_badge.js")).status_code == 200
        token = (await browser.get("/badge-token")).text
        headers = {"Authorization": f"Bearer {token}"}
        async with websocket(server.url, "", "/notifications?name=orders", headers, None) as tab:
            received = json.loads(await tab.recv())
            await browser.post("/orders/maria", data={"count": "3"})
            received += json.loads(await tab.recv())
            assert [(each["name"], each["data"]) for each in received] == [("orders", 2), ("orders", 3)]
        sent = await browser.put(
            f"{server.url}/api/v1/users/maria/notifications/orders", json={"data": 0}, headers=headers
        )
        assert sent.status_code == 403  # the token in the page cannot publish

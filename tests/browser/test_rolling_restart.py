"""Two app hosts behind nginx, restarted one after the other: real tabs stay current."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.browser_users import RECORDER, TIMEOUT, BrowserUser, Tab
from tests.proxies import Proxy
from tests.server_process import Person, Server
from tests.services import Redis
from tests.timing import LoadMonitor

BROWSERS = 3  # one connection each
STALE = 2.0  # seconds
DRAIN = 2.0
EVERY = 0.25  # seconds between two messages


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Server]]:
    with Redis(tmp_path) as redis:
        environ = {"MICROBLOG_BUS_URL": redis.url, "MICROBLOG_TRUSTED_HOPS": "1", "MICROBLOG_DRAIN": str(DRAIN)}
        with Server(tmp_path, environ=environ) as first, Server(tmp_path, environ=environ) as second:
            yield [first, second]


@pytest.fixture
def nginx(tmp_path: Path, hosts: list[Server]) -> Iterator[Proxy]:
    with Proxy(tmp_path, "nginx", *hosts) as nginx:
        yield nginx


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(chromium: Browser, nginx: Proxy) -> AsyncIterator[list[Tab]]:
    """A tab of bob in each of several browsers."""
    users = []
    for _ in range(BROWSERS):
        context = await chromium.new_context(base_url=nginx.url)
        context.set_default_timeout(TIMEOUT)
        await context.add_init_script(RECORDER)
        users.append(BrowserUser(context))
    yield [await user.sign_in("bob", nginx.password) for user in users]
    for user in users:
        await user.context.close()


async def test_no_tab_is_stale_during_a_rolling_restart(
    hosts: list[Server], nginx: Proxy, tabs: list[Tab], load_monitor: LoadMonitor
) -> None:
    """Takes two drains: one of each host."""
    alice = await asyncio.to_thread(Person, nginx, "alice")
    start, stop = time.time(), asyncio.Event()
    acknowledged: list[float] = []
    for tab in tabs:
        await tab.wait_for_frame()

    async def send_until_stopped() -> None:
        while len(acknowledged) < 99 and not stop.is_set():  # more are shown as 99+
            await asyncio.to_thread(alice.send, "bob", "hello")
            acknowledged.append(time.time())
            await asyncio.sleep(EVERY)

    sending = asyncio.create_task(send_until_stopped())
    for host in hosts:
        assert await asyncio.to_thread(host.stop) == 0
        await asyncio.to_thread(host.start)
    stop.set()
    await sending
    sent = len(acknowledged)
    assert 2 * DRAIN < sent < 99, "the precondition"
    for tab in tabs:
        await tab.wait_for_badge(sent)
        shown = {int(each["text"]): each["at"] for each in await tab.recorded() if each["text"]}
        for number, at in enumerate(acknowledged, 1):
            seen = min(when for count, when in shown.items() if count >= number)
            assert seen - at < load_monitor.allows(STALE, start), f"{number} of {sent}"
    alice.close()

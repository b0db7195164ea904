"""The Python client in five lines, while two hosts behind nginx are restarted one after the other."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from microblog_rt.client import Notification
from microblog_rt.storage import migrations
from tests.conftest import KEY
from tests.proxies import Proxy
from tests.server_process import DEADLINE, Server
from tests.services import PostgreSQL
from tests.token_users import token_user

DRAIN = 0.5
MESSAGES_MEANWHILE = 5


@pytest.fixture
def hosts(postgresql: PostgreSQL, tmp_path: Path) -> Iterator[list[Server]]:
    url = postgresql.database()
    migrations.upgrade(url)
    environ = {
        "MICROBLOG_DATABASE_URL": url,
        "MICROBLOG_BUS_URL": "postgresql://",
        "MICROBLOG_SECRET_KEY": KEY,
        "MICROBLOG_TRUSTED_HOPS": "1",
        "MICROBLOG_DRAIN": str(DRAIN),
    }
    with Server(tmp_path, environ=environ) as first, Server(tmp_path, environ=environ) as second:
        yield [first, second]


@pytest.fixture
def nginx(tmp_path: Path, hosts: list[Server]) -> Iterator[Proxy]:
    with Proxy(tmp_path, "nginx", *hosts) as nginx:
        nginx.environ = hosts[0].environ
        yield nginx


async def test_five_lines_survive_a_rolling_restart(hosts: list[Server], nginx: Proxy) -> None:
    """Messages are sent all the time: none fails, no count is repeated or goes back, and the last one arrives."""
    alice, bob = await asyncio.to_thread(token_user, nginx), await asyncio.to_thread(token_user, nginx)
    received: list[Notification] = []
    sent, stop = 0, asyncio.Event()

    async def five_lines() -> None:
        async with bob.client() as tab:
            async for each in tab.notifications():
                received.append(each)

    async def send() -> None:
        nonlocal sent
        async with alice.client() as tab:
            while not stop.is_set():
                await tab.send(bob.name, f"{sent + 1}")
                sent += 1

    async def up_to(count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while not received or received[-1].data < count:
                for task in (following, sending):
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)

    following, sending = asyncio.create_task(five_lines()), asyncio.create_task(send())
    try:
        await up_to(1)
        for host in hosts:
            before = sent
            assert await asyncio.to_thread(host.stop) == 0
            await up_to(before + MESSAGES_MEANWHILE)
            await asyncio.to_thread(host.start)
            await up_to(sent)
        stop.set()
        await sending
        await up_to(sent)
    finally:
        following.cancel()
        sending.cancel()
        await asyncio.gather(following, sending, return_exceptions=True)
    counts, cursors = [each.data for each in received], [each.timestamp for each in received]
    assert counts == sorted(set(counts))
    assert cursors == sorted(set(cursors))
    assert counts[-1] == sent

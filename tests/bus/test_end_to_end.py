"""Two processes on one database, without a sweep, over every bus that the database can go with."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis as RawClient

from microblog_rt.bus.redis import RedisBus
from microblog_rt.errors import SignedOut
from microblog_rt.models import User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from tests import server_process
from tests.bus.backends import go_on, hung
from tests.bus.test_every_bus import until_heard
from tests.buses import AT_ONCE, Process, running
from tests.clients import Client, signed_in
from tests.services import Redis
from tests.timing import quickest

PASSWORD = "correct horse"

Start = Callable[[], Awaitable[Services]]


def count(number: int) -> dict[str, int]:
    return {"unread_message_count": number}


@pytest.fixture(params=["redis", "the database"])
def shared(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "redis":
        return replace(settings, bus_url=request.getfixturevalue("redis").url)
    return replace(settings, bus_url="sqlite://" if settings.sqlite_file else "postgresql://")


@pytest.fixture
async def start(shared: Settings) -> AsyncIterator[Start]:
    """Start a process: everything below the web, and no sweep."""
    async with AsyncExitStack() as stack:

        async def start() -> Services:
            services = assemble(shared)
            stack.push_async_callback(services.close)
            await stack.enter_async_context(running(services.feed.receive(services.bus)))
            await until_heard(Process(services.bus))
            return services

        yield start


@pytest.fixture
async def here(start: Start) -> Services:
    return await start()


@pytest.fixture
async def susan(here: Services) -> User:
    return await here.accounts.register("susan", PASSWORD)


@pytest.fixture
async def tab(start: Start, susan: User) -> AsyncIterator[Client]:
    """A tab of Susan's in another process."""
    there = await start()
    tab = Client(there, await signed_in(there, susan))
    await tab.connect()
    yield tab
    await tab.disconnect()


async def test_what_happens_in_one_process_is_seen_in_the_other(here: Services, susan: User, tab: Client) -> None:
    for number in (1, 2, 3):
        await here.messages.send_message(susan.id, susan.id, "hello")
        await tab.until(lambda number=number: tab.state == count(number))
    await here.messages.mark_read(susan.id)
    await tab.until(lambda: tab.state == count(0))
    await here.notifications.add_notification(susan.id, "weather", "fine")
    await tab.until(lambda: tab.state == count(0) | {"weather": "fine"})
    await here.sessions.end_session(tab.reader)
    assert isinstance(await tab.refused(), SignedOut)


@pytest.mark.parametrize("shared", ["the database"], indirect=True)
async def test_what_a_command_does_is_seen_in_a_server(shared: Settings, tab: Client) -> None:
    environ = {"MICROBLOG_DATABASE_URL": shared.database_url, "MICROBLOG_BUS_URL": shared.bus_url}
    ended = await asyncio.to_thread(
        subprocess.run,
        [*server_process.COMMAND, "user", "password", "susan"],
        input="another password\n",
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=server_process.DEADLINE,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert isinstance(await tab.refused(), SignedOut)


async def test_a_bus_that_hangs_delays_no_send(here: Services, susan: User, tab: Client, shared: Settings) -> None:
    """Neither Redis nor what listens in PostgreSQL; in SQLite there is nothing that could."""

    sent = 0

    async def send() -> None:
        nonlocal sent
        sent += 1
        await here.messages.send_message(susan.id, susan.id, "hello")

    usual = await quickest(send, 0)
    async with hanging(shared):
        assert await quickest(send, usual + AT_ONCE) < usual + AT_ONCE
    await tab.until(lambda: tab.state == count(sent))


@asynccontextmanager
async def hanging(shared: Settings) -> AsyncIterator[None]:
    if shared.bus_url == "postgresql://":
        pids = await hung(shared.database_url)
    elif shared.bus_url == "sqlite://":
        pids = []
    else:
        async with RawClient.from_url(shared.bus_url) as raw:
            pids = [int((await raw.info("server"))["process_id"])]
        os.kill(pids[0], signal.SIGSTOP)
    try:
        yield
    finally:
        go_on(pids)


@pytest.mark.sqlite
@pytest.mark.parametrize("shared", ["redis"], indirect=True)
async def test_a_tab_that_read_before_its_subscription_stood_is_told_what_came_between(
    here: Services, start: Start, susan: User, redis: Redis, as_it_is: None
) -> None:
    there = await start()
    tab = Client(there, await signed_in(there, susan))
    redis.pause()
    await tab.connect()
    assert tab.state == {}
    assert isinstance(here.bus, RedisBus)
    here.bus._closed = True  # its word is lost
    await here.bus._publish_queue.close()
    await here.messages.send_message(susan.id, susan.id, "hello")
    redis.resume()
    await tab.until(lambda: tab.state == count(1))
    await tab.disconnect()

"""Two processes on one database without a sweep, over each bus that works with that database."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis as RawClient

from microblog_rt.bus.redis import RedisBus
from microblog_rt.errors import SignedOut
from microblog_rt.models import User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts
from tests.bus.backends import resume, suspend_listening
from tests.buses import NO_DELAY, Process, running
from tests.clients import DEADLINE, Client, send, signed_in
from tests.command_line import Folder
from tests.services import Redis
from tests.timing import slowest, within

PASSWORD = "correct horse"

Start = Callable[..., Awaitable[Services]]


def count(number: int) -> dict[str, int]:
    return {"unread_message_count": number}


@pytest.fixture(params=["redis", "the database"])
def shared(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "redis":
        return replace(settings, bus_url=request.getfixturevalue("redis").url)
    return replace(settings, bus_url="sqlite://" if settings.sqlite_file else "postgresql://")


@pytest.fixture
async def start(shared: Settings, timeouts: Timeouts) -> AsyncIterator[Start]:
    """Start a process: all services, and no sweep."""
    patient = replace(timeouts, broker_answer=DEADLINE, subscribe=DEADLINE)
    async with AsyncExitStack() as stack:

        async def start(timeouts: Timeouts = patient) -> Services:
            services = assemble(shared, timeouts)
            stack.push_async_callback(services.close)
            await stack.enter_async_context(running(services.feed.receive(services.bus)))
            await Process(services.bus).until_connected()
            return services

        yield start


@pytest.fixture
async def sender(start: Start) -> Services:
    return await start()


@pytest.fixture
async def susan(sender: Services) -> User:
    return await sender.accounts.register("susan", PASSWORD)


@pytest.fixture
async def tab(start: Start, susan: User) -> AsyncIterator[Client]:
    """A tab of Susan in another process."""
    other = await start()
    tab = Client(other, await signed_in(other, susan))
    await tab.connect()
    yield tab
    await tab.disconnect()


async def test_changes_reach_a_tab_in_another_process(sender: Services, susan: User, tab: Client) -> None:
    for number in (1, 2, 3):
        await send(sender, susan)
        await tab.until(lambda number=number: tab.state == count(number))
    await sender.messages.mark_read(susan.id)
    await tab.until(lambda: tab.state == count(0))
    await sender.notifications.add_notification(susan.id, "weather", "fine")
    await tab.until(lambda: tab.state == count(0) | {"weather": "fine"})
    await sender.sessions.end_session(tab.reader)
    assert isinstance(await tab.refused(), SignedOut)


@pytest.mark.parametrize("shared", ["the database"], indirect=True)
async def test_password_command_signs_out_a_tab_in_a_server(shared: Settings, tab: Client, tmp_path: Path) -> None:
    environ = {"MICROBLOG_DATABASE_URL": shared.database_url, "MICROBLOG_BUS_URL": shared.bus_url}
    command = partial(Folder(tmp_path).run, "user", "password", "susan", typed="another password\n", **environ)
    ended = await asyncio.to_thread(command)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert isinstance(await tab.refused(), SignedOut)


async def test_hanging_bus_delays_no_send(sender: Services, susan: User, tab: Client, shared: Settings) -> None:
    """Redis, and the listening connection in PostgreSQL; with SQLite there is nothing that could hang."""
    sent = 0

    async def send_one() -> None:
        nonlocal sent
        sent += 1
        await send(sender, susan)

    usual = await slowest(send_one)
    async with suspended(shared), within(usual + NO_DELAY):
        await send_one()
    await tab.until(lambda: tab.state == count(sent))


@asynccontextmanager
async def suspended(shared: Settings) -> AsyncIterator[None]:
    if shared.bus_url == "postgresql://":
        pids = await suspend_listening(shared.database_url)
    elif shared.bus_url == "sqlite://":
        pids = []
    else:
        async with RawClient.from_url(shared.bus_url) as raw:
            pids = [int((await raw.info("server"))["process_id"])]
        os.kill(pids[0], signal.SIGSTOP)
    try:
        yield
    finally:
        resume(pids)


@pytest.mark.sqlite
@pytest.mark.parametrize("shared", ["redis"], indirect=True)
async def test_tab_that_read_before_its_subscription_reads_again(
    sender: Services, start: Start, susan: User, redis: Redis, timeouts: Timeouts
) -> None:
    other = await start(timeouts)
    tab = Client(other, await signed_in(other, susan))
    redis.pause()
    await tab.connect()
    assert tab.state == {}
    assert isinstance(sender.bus, RedisBus)
    await sender.bus._publish_queue.close()  # so that the signal is lost
    await send(sender, susan)
    redis.resume()
    await tab.until(lambda: tab.state == count(1))
    await tab.disconnect()

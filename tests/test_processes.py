"""Several processes on one database and one Redis: lost signals, failures, shutdown.

See also: ``bus/test_end_to_end.py``.
"""

import asyncio
import io
import os
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import click
import pytest
from redis.asyncio import Redis as RawClient

from microblog_rt import bus, cli, shell
from microblog_rt.app import create_app
from microblog_rt.bus import BusEvent, MemoryBus
from microblog_rt.errors import SignedOut
from microblog_rt.hub import Hub
from microblog_rt.models import User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts
from tests import server_process
from tests.buses import PATIENT, CapturedLog, captured_log, other_connections, running, signal
from tests.clients import DEADLINE, Client, send, signed_in
from tests.services import Redis

PASSWORD = "correct horse"

Start = Callable[..., Awaitable[Services]]


def count(number: int) -> dict[str, int]:
    return {"unread_message_count": number}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as redis:
        yield redis


@pytest.fixture
async def log() -> AsyncIterator[CapturedLog]:
    with captured_log() as log:
        yield log


@pytest.fixture
def shared(settings: Settings, redis: Redis) -> Settings:
    """Settings of processes that share a database and a Redis."""
    return replace(settings, bus_url=redis.url)


@pytest.fixture
async def start(shared: Settings) -> AsyncIterator[Start]:
    """Start a process: the services, without a sweep."""
    async with AsyncExitStack() as stack:

        async def start(timeouts: Timeouts = Timeouts()) -> Services:
            services = assemble(shared, timeouts)
            stack.push_async_callback(services.close)
            await stack.enter_async_context(running(services.feed.receive(services.bus)))
            async with asyncio.timeout(DEADLINE):
                await services.bus.connected.wait()
            return services

        yield start


@pytest.fixture
async def here(start: Start) -> Services:
    return await start()


@pytest.fixture
async def there(start: Start) -> Services:
    return await start()


@pytest.fixture
async def susan(here: Services) -> User:
    return await here.accounts.register("susan", PASSWORD)


@pytest.fixture
async def tab(there: Services, susan: User) -> AsyncIterator[Client]:
    """A tab of Susan's in the other process."""
    tab = Client(there, await signed_in(there, susan))
    await tab.connect()
    yield tab
    await tab.disconnect()


async def test_gap_delivers_what_was_missed(
    here: Services, susan: User, tab: Client, redis: Redis, log: CapturedLog
) -> None:
    redis.stop()
    await log.until("unavailable for receiving signals")
    await here.bus.close()  # otherwise it would publish later
    await send(here, susan)
    redis.start()
    await tab.until(lambda: tab.state == count(1))


async def test_send_is_as_fast_without_redis(here: Services, susan: User, redis: Redis, log: CapturedLog) -> None:
    here.bus.timeouts = PATIENT
    redis.pause()
    async with asyncio.timeout(DEADLINE / 2):
        await send(here, susan)
        await send(here, susan)
    redis.resume()


async def test_pending_write_is_signalled_at_close(start: Start, susan: User, john: User, tab: Client) -> None:
    ending = await start(Timeouts(publish_on_close=DEADLINE))
    sending = asyncio.create_task(ending.messages.send_message(john.id, susan.id, "hello"))
    while not ending.storage._writes:
        await asyncio.sleep(0)
    sending.cancel()
    await ending.close()
    await tab.until(lambda: tab.state == count(1))
    await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("failing", ["bus", "hub"])
async def test_failed_bus_is_restarted_and_subscribers_reconcile(
    failing: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, log: CapturedLog
) -> None:
    happened: list[str] = []

    def fail(what: str) -> None:
        happened.append(what)
        if what.startswith(failing) and happened.count(what) == 1:
            raise RuntimeError("a bug")

    class Bus(MemoryBus):
        async def events(self) -> AsyncGenerator[BusEvent]:
            try:
                yield signal(1)
                fail("bus")
            finally:
                happened.append("closed")

    monkeypatch.setattr(Hub, "deliver", lambda *_: fail("hub"))

    def positions(*_: object) -> dict[int, int]:
        happened.append("reconcile")
        return {}

    monkeypatch.setattr(Hub, "positions", positions)
    services = assemble(settings, Timeouts(bus_restart=0.001))
    async with asyncio.timeout(DEADLINE):
        await services.feed.receive(Bus())
    failed = ["hub"] if failing == "hub" else ["hub", "bus"]
    assert happened == [*failed, "closed", "reconcile", "hub", "bus", "closed"]
    assert log.count("RuntimeError: a bug") == 1
    await services.close()


async def test_server_subscribes_before_serving_and_closes_all(
    shared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = create_app(shared, Timeouts(bus_start=DEADLINE))
    services: Services = application.extensions["services"]
    async with RawClient.from_url(shared.bus_url) as raw:
        async with application.test_app():
            assert services.bus.connected.is_set()
            services.bus.publish(signal(1))
        assert await other_connections(raw) == []


@pytest.mark.parametrize("command", ["user", "shell"])
def test_command_closes_its_bus(command: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []

    class Closing(MemoryBus):
        async def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(bus, "connect", lambda *_: Closing())
    monkeypatch.setattr(cli, "chosen_settings", lambda: settings)
    if command == "shell":
        monkeypatch.setattr("sys.stdin", io.StringIO())
        shell.interact(assemble(settings))
    else:
        with click.Context(cli.main):
            cli.run_with_services(lambda services: services.accounts.register("susan", PASSWORD))
    assert closed == [True]


async def test_server_serves_without_redis(shared: Settings, redis: Redis) -> None:
    redis.stop()
    application = create_app(shared, Timeouts(bus_start=0.01))
    async with application.test_app() as running:
        assert (await running.test_client().get("/auth/login")).status_code == 200


async def test_cli_password_change_ends_open_stream(shared: Settings, susan: User, tab: Client) -> None:
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
    errors = [line for line in ended.stderr.splitlines() if "microblog_rt.security" not in line]
    assert (ended.returncode, errors) == (0, [])
    assert isinstance(await tab.refused(), SignedOut)

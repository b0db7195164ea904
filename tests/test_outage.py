"""PostgreSQL outages: errors within two seconds, no lost acknowledged write, and recovery without a restart."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.ext.asyncio import create_async_engine

from microblog_rt.errors import TooMany, Unavailable
from microblog_rt.models import User
from microblog_rt.protocol import FURTHEST, Signal
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import limits
from microblog_rt.storage.postgres import WRITERS
from microblog_rt.timeouts import Timeouts
from tests.clients import DEADLINE, Client, send, signed_in
from tests.conftest import KEY
from tests.interleaving import BLOCKED_BACKENDS
from tests.services import PostgreSQL
from tests.timing import within

REFUSED_WITHIN = 2.0  # seconds
RECOVERED_WITHIN = 5.0  # seconds
UNAFFECTED_WITHIN = 0.7  # seconds; less than the time-out of a row lock


@pytest.fixture
async def services(postgresql_emptied: str) -> AsyncIterator[Services]:
    # The driver's time-out includes pauses of the whole machine; the one tested here (silence.py) does not.
    timeouts = Timeouts(postgres_connect=DEADLINE)
    services = assemble(Settings(database_url=postgresql_emptied, secret_key=KEY, send_limit=None), timeouts)
    yield services
    await services.close()


@pytest.fixture(params=["stopped", "paused"])
def outage(request: pytest.FixtureRequest, postgresql: PostgreSQL) -> Any:
    """A context manager during which the database is stopped, or runs but does not answer."""
    stop, start = {
        "stopped": (postgresql.stop, postgresql.start),
        "paused": (postgresql.pause, postgresql.resume),
    }[request.param]

    @asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        stop()  # not in a thread: the server ends with the thread that started it (PR_SET_PDEATHSIG)
        try:
            yield
        finally:
            start()

    return outage


async def refused(work: Awaitable[object]) -> None:
    """Expect Unavailable within ``REFUSED_WITHIN``."""
    async with within(REFUSED_WITHIN):
        with pytest.raises(Unavailable):
            await work


async def recovered(services: Services) -> None:
    """Wait until the database takes writes, as a health check does."""
    async with asyncio.timeout(RECOVERED_WITHIN):
        while True:
            if (await services.storage.health()).state == "connected":
                return
            await asyncio.sleep(0.05)


async def stored_texts(services: Services) -> list[str]:
    async with raw(services) as operator:
        return [row["body"] for row in await operator.fetch("SELECT body FROM message ORDER BY id")]


async def test_outage_refuses_requests_and_recovers(services: Services, susan: User, outage: Any) -> None:
    reader = await signed_in(services, susan)
    await send(services, susan, "before")
    async with outage():
        await refused(services.messages.send_message(susan.id, susan.id, "meanwhile", "nonce"))
        await refused(services.feed.page(reader, 0))
        await refused(services.accounts.find("susan"))
        async with within(REFUSED_WITHIN):
            assert (await services.storage.health()).state == "disconnected"
    await recovered(services)
    # A paused server may have received it, and execute it now: a retry under the nonce gets that result, or sends it.
    await services.messages.send_message(susan.id, susan.id, "meanwhile", "nonce")
    for number in range(10):
        await send(services, susan, f"after {number}")
        assert [each.data for each in await services.feed.page(reader, 0)] == [2 + number]
    assert await stored_texts(services) == ["before", "meanwhile", *(f"after {number}" for number in range(10))]


async def test_close_does_not_wait_for_the_database(postgresql_emptied: str, outage: Any) -> None:
    async def opened() -> Services:
        services = assemble(Settings(database_url=postgresql_emptied, secret_key=KEY))
        await asyncio.gather(*(services.accounts.find("susan") for _ in range(5)), *(write(services) for _ in range(5)))
        return services

    async def write(services: Services) -> None:
        await services.storage.write(lambda tx: tx.execute(select(1)))

    services = await opened()
    async with outage(), within(REFUSED_WITHIN):
        await services.close()


async def test_concurrent_sends_are_all_refused_in_time(
    services: Services, susan: User, outage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """There are more sends than connections."""
    await services.messages.send_message(susan.id, susan.id, "before")

    def send(number: int) -> Awaitable[None]:
        return refused(services.messages.send_message(susan.id, susan.id, f"{number}"))

    async with outage():
        await asyncio.gather(*map(send, range(40)))
    assert [each.levelname for each in caplog.records if each.name.startswith("microblog_rt")] == ["WARNING"], "once"
    await recovered(services)
    await services.messages.send_message(susan.id, susan.id, "after")
    before, *received, after = await stored_texts(services)
    assert (before, after) == ("before", "after")
    assert len(received) <= WRITERS, "those that a paused server had received"


async def test_tabs_stay_open_and_recover_after_an_outage(services: Services, susan: User, outage: Any) -> None:
    tab = Client(services, await signed_in(services, susan))
    await tab.connect(heartbeat=0.1)
    async with outage():
        services.hub.deliver(Signal(susan.id, FURTHEST))  # the stream must read
        beats = len(tab.pages)
        await tab.until(lambda: len(tab.pages) > beats)
    await recovered(services)
    await send(services, susan, "after")
    async with asyncio.timeout(RECOVERED_WITHIN):
        await tab.until(lambda: tab.state == {"unread_message_count": 1})
    await tab.disconnect()


async def test_requests_succeed_after_pooled_connections_were_cut(
    services: Services, susan: User, postgresql: PostgreSQL
) -> None:
    """As after a failover: dead connections in the pools are detected, before the event loop knows of them."""
    reader = await signed_in(services, susan)
    await asyncio.gather(
        *(services.messages.send_message(susan.id, susan.id, f"{number}") for number in range(5)),
        *(services.feed.page(reader, 0) for _ in range(5)),
    )
    cut = postgresql.backends()
    postgresql.execute(str(services.storage.engines[0].url), TERMINATE_OTHERS)
    while any(is_running(pid) for pid in cut):  # a backend leaves pg_stat_activity before it closes its connection
        os.sched_yield()
    for number in range(10):
        await services.messages.send_message(susan.id, susan.id, f"after {number}")
        await services.feed.page(reader, 0)


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()  # a zombie has no exe and has closed its connections


async def test_connection_cut_during_setup_raises_unavailable(services: Services) -> None:
    """SQLAlchemy does not translate asyncpg's own error here."""

    def cut(connection: Any, _: Any) -> None:
        connection.driver_connection.terminate()

    event.listen(services.storage.engines[0], "first_connect", cut, insert=True)
    event.listen(services.storage.engines[0], "connect", cut, insert=True)
    with pytest.raises(Unavailable):
        await services.accounts.find("susan")
    assert (await services.storage.health()).state == "disconnected"


async def test_locked_row_delays_only_its_user(services: Services, susan: User, john: User) -> None:
    async with raw(services) as operator, operator.transaction():
        await operator.execute("SELECT * FROM mailbox WHERE user_id = $1 FOR UPDATE", susan.id)
        blocked = asyncio.create_task(refused(services.messages.send_message(john.id, susan.id, "blocked")))
        async with within(UNAFFECTED_WITHIN):
            for number in range(3):
                await services.messages.send_message(susan.id, john.id, f"{number}")
        await blocked
        assert (await services.storage.health()).state == "connected"
    assert await stored_texts(services) == ["0", "1", "2"]


async def test_hanging_commit_times_out_while_others_are_answered(services: Services, susan: User, john: User) -> None:
    """As with a missing synchronous standby or a disk that does not write."""
    reader = await signed_in(services, susan)
    async with raw(services) as operator:
        await operator.execute("ALTER SYSTEM SET synchronous_standby_names = 'missing'")
        await operator.execute("SELECT pg_reload_conf()")
        try:
            await commits_hang(services, operator)
            # Each to another recipient: a hanging commit keeps its row locked.
            recipients = iter([susan, john])
            sending = asyncio.create_task(
                refused(services.messages.send_message(susan.id, next(recipients).id, "hello"))
            )
            while not sending.done():
                await services.feed.page(reader, 0)
            await sending
        finally:
            await operator.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await operator.execute("SELECT pg_reload_conf()")
            await operator.execute(WRITE)  # returns once commits no longer hang


async def commits_hang(services: Services, operator: "asyncpg.Connection") -> None:
    """Return once commits hang: a configuration reload takes effect in each backend at its own time."""
    async with raw(services) as other:
        while True:
            writing = asyncio.create_task(other.execute(WRITE))
            while not writing.done():
                if await operator.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"):
                    other.terminate()
                    await asyncio.gather(writing, return_exceptions=True)
                    return
            await writing


async def test_database_refusing_connections_is_unavailable(
    services: Services, susan: User, postgresql: PostgreSQL
) -> None:
    name = services.storage.engines[1].url.database
    postgresql.execute(postgresql.url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    try:
        another = assemble(Settings(database_url=str(services.storage.engines[1].url), secret_key=KEY))
        assert (await another.storage.health()).state == "disconnected"
    finally:
        postgresql.execute(postgresql.url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


async def test_retry_after_a_lost_commit_response_sends_once(services: Services, susan: User) -> None:
    """Such a write is refused and stored; the nonce makes the retry return the first result."""
    lose = iter([True])

    def lose_response(connection: Any) -> None:
        if next(lose, False):
            connection.connection.commit()
            raise ConnectionResetError("response to COMMIT lost")

    event.listen(services.storage.engines[1], "commit", lose_response)
    with pytest.raises(Unavailable):
        await services.messages.send_message(susan.id, susan.id, "once", "nonce")
    await recovered(services)
    assert not await services.messages.send_message(susan.id, susan.id, "once", "nonce")
    assert await stored_texts(services) == ["once"]


async def test_limits_of_two_processes_wait_for_each_other(postgresql_emptied: str, services: Services) -> None:
    """Otherwise both could take the last free place."""
    other = assemble(Settings(database_url=postgresql_emptied, secret_key=KEY), Timeouts(postgres_lock=DEADLINE))

    engine = create_async_engine(postgresql_emptied)

    async def take(services: Services) -> None:
        await services.storage.write(lambda tx: limits.take(tx, "subject", Limit(1, 60)))

    async with raw(services) as operator:
        async with engine.begin() as tx:
            await tx.run_sync(limits.take, "subject", Limit(1, 60))
            second = asyncio.create_task(take(other))
            while not second.done() and not await operator.fetchval(BLOCKED_BACKENDS):
                pass
        with pytest.raises(TooMany):
            await second
    await engine.dispose()
    await other.close()


@asynccontextmanager
async def raw(services: Services) -> AsyncIterator["asyncpg.Connection"]:
    url = services.storage.engines[1].url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


WRITE = "SELECT pg_logical_emit_message(true, 'test', 'written')"
TERMINATE_OTHERS = """SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""


async def test_cancelled_statement_logs_no_error(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    """As when a client disconnects while its poll is answered."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), services.storage.feed_read() as connection:
            await connection.execute(select(func.pg_sleep(30)))
    assert (await services.storage.health()).state == "connected"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []

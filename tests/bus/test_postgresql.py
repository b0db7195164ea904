"""The bus through PostgreSQL, beyond the contract of every bus (``test_every_bus.py``)."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from microblog_rt.bus import MemoryBus, connect
from microblog_rt.bus import postgresql as postgresql_bus
from microblog_rt.bus.postgresql import PostgresqlBus
from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import Signal
from microblog_rt.services import assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations
from microblog_rt.storage.counters import UNREAD_MESSAGES
from tests.bus.backends import PostgresqlBackend
from tests.buses import (
    FAST_HEARTBEAT,
    GAP,
    INVALID_SIGNALS,
    CapturedLog,
    comparable,
    idle_process,
    receiving_process,
    running,
    signal,
)
from tests.clients import DEADLINE, send, signed_in
from tests.services import PostgreSQL

DATABASE = "postgresql+asyncpg://ann:s3cret@db:6432/blog?ssl=require"


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> PostgresqlBackend:
    return PostgresqlBackend(request)


@pytest.fixture
async def raw(backend: PostgresqlBackend) -> AsyncIterator["asyncpg.Connection"]:
    """A connection to the database that does not use the bus."""
    connection = await asyncpg.connect(backend.database_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


async def test_invalid_signals_are_ignored_and_logged_once(
    backend: PostgresqlBackend, raw: "asyncpg.Connection", log: CapturedLog
) -> None:
    async with (
        receiving_process(backend.url, backend.database_url) as receiver,
        idle_process(backend.url, backend.database_url) as sender,
    ):
        for packed in INVALID_SIGNALS:
            await raw.execute("SELECT pg_notify($1, $2)", postgresql_bus.CHANNEL, packed.decode(errors="replace"))
        await backend.publish(sender, signal(1))
        await receiver.until_received(comparable(signal(1)))
    assert receiver.received.items == [comparable(signal(1))]
    assert log.count("invalid signal") == 1


async def test_databases_of_one_server_are_separate(backend: PostgresqlBackend, request: pytest.FixtureRequest) -> None:
    other = PostgresqlBackend(request)
    async with (
        receiving_process(backend.url, backend.database_url) as first,
        receiving_process(other.url, other.database_url) as second,
        idle_process(backend.url, backend.database_url) as sender,
        idle_process(other.url, other.database_url) as other_sender,
    ):
        await backend.publish(sender, signal(1))
        await other.publish(other_sender, signal(2))
        await first.until_received(comparable(signal(1)))
        await second.until_received(comparable(signal(2)))
    assert first.received.items == [comparable(signal(1))]
    assert second.received.items == [comparable(signal(2))]


async def test_closing_events_closes_the_connection(backend: PostgresqlBackend) -> None:
    async with receiving_process(backend.url, backend.database_url):
        assert len(await backend.listening_pids()) == 1
    async with asyncio.timeout(DEADLINE):
        while await backend.listening_pids():
            await asyncio.sleep(0.01)


LIMITED_QUEUE = """
CREATE TABLE public.queue (is_full bool, asked int);
INSERT INTO public.queue VALUES (false, 0);
CREATE FUNCTION public.pg_notify(channel text, payload text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT is_full FROM public.queue) THEN
        RAISE EXCEPTION 'too many notifications in the NOTIFY queue' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    PERFORM pg_catalog.pg_notify(channel, payload);
END $$;
CREATE FUNCTION public.pg_notification_queue_usage() RETURNS int LANGUAGE sql AS
    'UPDATE public.queue SET asked = asked + 1 RETURNING asked';
ALTER DATABASE {} SET search_path = public, pg_catalog;
"""


async def test_full_notify_queue_delays_signals(postgresql: PostgreSQL, log: CapturedLog) -> None:
    """PostgreSQL's own functions are hidden by ones that behave as with a full queue of 64 pages (PostgreSQL 17)."""
    database_url = postgresql.database()
    await asyncio.to_thread(postgresql.execute, database_url, LIMITED_QUEUE.format(database_url.rpartition("/")[2]))
    raw = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    async with (
        receiving_process("postgresql://", database_url, FAST_HEARTBEAT) as receiver,
        idle_process("postgresql://", database_url, FAST_HEARTBEAT) as sender,
    ):
        await receiver.until_connected()
        await raw.execute("UPDATE public.queue SET is_full = true")
        for clock in (10, 20):
            sender.publish(signal(1, clock), signal(2, clock))
            await log.until("unavailable for publishing signals: too many notifications")
        async with asyncio.timeout(DEADLINE):
            while receiver.bus.health().state != "no_heartbeat":
                await asyncio.sleep(0.01)
        assert receiver.bus.connected.is_set(), "the listener stays"
        assert receiver.received.items == []
        await raw.execute("UPDATE public.queue SET is_full = false")
        await receiver.until_received(*(comparable(Signal(user_id, 20)) for user_id in (1, 2)))
        await receiver.until_connected()
        await log.until("available again for publishing signals")
        assert GAP not in receiver.received.items
        assert log.count("unavailable") == 1
        assert await raw.fetchval("SELECT asked FROM queue") > 2, "only this frees a queue that no NOTIFY frees"
    await raw.close()


async def test_full_notify_queue_refuses_no_send_and_no_sign_out(postgresql: PostgreSQL, log: CapturedLog) -> None:
    url = postgresql.database()
    await asyncio.to_thread(migrations.upgrade, url)
    await asyncio.to_thread(postgresql.execute, url, LIMITED_QUEUE.format(url.rpartition("/")[2]))
    await asyncio.to_thread(postgresql.execute, url, "UPDATE public.queue SET is_full = true")
    services = assemble(Settings(database_url=url, bus_url="postgresql://", secret_key="k" * 32))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(services.close)
        susan = await services.accounts.register("susan", "a long password")
        reader = await signed_in(services, susan)
        await send(services, susan)
        await log.until("unavailable for publishing signals: too many notifications")
        visit = await services.sessions.visit(reader)
        assert visit is not None
        assert visit.counters[UNREAD_MESSAGES.name] == 1
        await services.sessions.end_session(reader)
        assert await services.sessions.visit(reader) is None


async def test_password_is_not_logged(backend: PostgresqlBackend, log: CapturedLog) -> None:
    database_url = backend.database_url.replace("postgres@", "stranger:s3cret@")
    async with idle_process("postgresql://", database_url) as process, running(process.receive()):
        await log.until("unavailable for receiving signals")
    assert log.count("stranger") == 1
    assert log.count("s3cret") == 0


async def test_full_receive_queue_becomes_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_bus, "MAX_RECEIVED", 3)
    received = postgresql_bus._Received()
    for number in range(5):
        received.add(signal(number))
    events = [await received.next(0) for _ in range(4)]
    assert [comparable(each) for each in events if each] == [GAP, comparable(signal(3)), comparable(signal(4))]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://", {"host": "db", "port": 6432, "user": "ann", "password": "s3cret"}),
        ("postgresql://direct", {"host": "direct", "user": "ann", "password": "s3cret"}),
        ("postgresql://direct:5433", {"host": "direct", "port": 5433, "user": "ann", "password": "s3cret"}),
        ("postgresql://bus:p%40w@direct/blog", {"host": "direct", "user": "bus", "password": "p@w"}),
        ("postgresql://bus@direct", {"host": "direct", "user": "bus"}),
    ],
)
def test_bus_url_is_completed_from_the_database_url(url: str, address: dict[str, str]) -> None:
    assert postgresql_bus._address(url, DATABASE) == {"database": "blog", "ssl": "require", **address}


def test_tls_is_disabled_by_default_on_loopback_only() -> None:
    local = "postgresql+asyncpg://127.0.0.1/blog"
    assert postgresql_bus._address("postgresql://", local)["ssl"] == "disable"
    assert postgresql_bus._address("postgresql://", f"{local}?ssl=require")["ssl"] == "require"
    assert "ssl" not in postgresql_bus._address("postgresql://direct", local)


@pytest.mark.parametrize(
    ("url", "database_url"),
    [
        ("postgresql://:s3cret@direct/another", DATABASE),
        ("postgresql://:s3cret@direct:99999", DATABASE),
        ("postgresql://:s3cret@direct", "sqlite+aiosqlite:///blog.db"),
        ("postgresql://:s3cret@direct", ""),
    ],
)
def test_invalid_url_is_refused_without_its_password(url: str, database_url: str) -> None:
    with pytest.raises(Misconfigured, match=r"MICROBLOG_BUS_URL: .* requires the database to be Postgre") as refused:
        connect(url, database_url)
    assert "s3cret" not in str(refused.value)


def test_missing_asyncpg_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    assert isinstance(connect("memory://"), MemoryBus)
    with pytest.raises(Misconfigured, match=r"pip install 'microblog-rt\[postgres\]'"):
        connect("postgresql://", DATABASE)


async def test_broken_publishing_connection_is_dropped() -> None:
    class Broken:
        terminated = False

        def is_closed(self) -> bool:
            return False

        async def execute(self, *_: object, **__: object) -> None:
            raise ConnectionResetError

        def terminate(self) -> None:
            self.terminated = True

    bus = PostgresqlBus("postgresql://", DATABASE)
    bus._publisher = broken = Broken()
    with pytest.raises(ConnectionResetError):
        await bus._send_signals([])
    assert broken.terminated
    assert bus._publisher is None

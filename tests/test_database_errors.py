"""Database errors: a clear refusal, no false acknowledgement, and recovery."""

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from microblog_rt.errors import Unavailable
from microblog_rt.models import User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import Transaction, sql_time, sqlite
from microblog_rt.timeouts import Timeouts
from tests.asgi_server import warnings_logged
from tests.clients import DEADLINE, Client, send, signed_in
from tests.timing import within

pytestmark = pytest.mark.sqlite


@pytest.fixture
def timeouts() -> Timeouts:
    return Timeouts(sqlite_busy=0.1, database_recovered=0)


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Another process holds SQLite's write lock."""
    with closing(sqlite3.connect(str(settings.sqlite_file), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_send_is_refused_while_the_database_is_locked(
    services: Services, settings: Settings, susan: User
) -> None:
    with locked(settings), pytest.raises(Unavailable):
        await services.messages.send_message(susan.id, susan.id, "hello")
    assert (await services.messages.inbox(susan.id, 10)).rows == []
    assert await services.messages.send_message(susan.id, susan.id, "hello")


async def test_poll_works_while_the_database_is_locked(
    services: Services, settings: Settings, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await signed_in(services, susan)
    await services.messages.send_message(susan.id, susan.id, "hello")
    later = sql_time.now() + 61_000_000
    monkeypatch.setattr(sql_time, "now", lambda: later)
    with locked(settings):
        assert len(await services.feed.page(reader, 0)) == 1


async def test_stream_stays_open_while_the_database_is_locked(
    services: Services, settings: Settings, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = Client(services, await signed_in(services, susan))
    await tab.connect(heartbeat=0.05)
    later = sql_time.now() + 3_700_000_000
    monkeypatch.setattr(sql_time, "now", lambda: later)
    with locked(settings):
        pages = len(tab.pages)
        await tab.until(lambda: len(tab.pages) > pages + 2)
    await send(services, susan)
    await tab.until(lambda: tab.state == {"unread_message_count": 1})
    await tab.disconnect()


async def test_write_after_a_failed_commit_succeeds(services: Services, susan: User) -> None:
    fails = iter([True])

    def fail(_: Any) -> None:
        if next(fails, False):
            raise sqlite3.OperationalError("disk I/O error")

    event.listen(services.storage.engines[1], "commit", fail)
    with pytest.raises(sqlite3.OperationalError):
        await services.messages.send_message(susan.id, susan.id, "lost")
    assert await services.messages.send_message(susan.id, susan.id, "kept")
    posts = (await services.messages.inbox(susan.id, 10)).rows
    assert [post.body for post in posts] == ["kept"]


FAILED = "write failed after its client disconnected"


@pytest.mark.parametrize(("error", "logged"), [(Unavailable(), []), (RuntimeError("ours"), [FAILED])])
async def test_failed_write_of_a_cancelled_caller_is_logged(
    services: Services, error: Exception, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio logs no exception that was never retrieved."""
    begun, goes_on = asyncio.Event(), threading.Event()

    loop = asyncio.get_running_loop()

    def work(_: Transaction) -> None:
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait(DEADLINE)
        raise error

    asking = asyncio.create_task(services.storage.write(work))
    await begun.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    goes_on.set()
    await services.storage.close()
    gc.collect()
    assert warnings_logged(caplog.records) == logged


async def test_cancelled_read_returns_its_connection(services: Services, susan: User) -> None:
    reader = await signed_in(services, susan)
    for delay in range(200):
        reading = asyncio.create_task(services.feed.page(reader, 0))
        for _ in range(delay % 12):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert await asyncio.gather(*(services.feed.page(reader, 0) for _ in range(20))) == [[]] * 20


async def test_poll_does_not_wait_for_the_write_lock(
    services: Services, settings: Settings, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = assemble(settings, Timeouts(sqlite_busy=5.0))
    reader = await signed_in(services, susan)
    await services.messages.send_message(susan.id, susan.id, "hello")
    later = sql_time.now() + 61_000_000
    monkeypatch.setattr(sql_time, "now", lambda: later)
    with locked(settings):
        async with within(1):
            assert [len(await services.feed.page(reader, 0)) for _ in range(5)] == [1] * 5
    await services.close()


async def test_database_errors_do_not_contain_message_text(
    services: Services, susan: User, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = "CREATE TRIGGER fails BEFORE INSERT ON message BEGIN SELECT RAISE(FAIL, 'broken'); END"
    await services.storage.write(lambda tx: tx.exec_driver_sql(trigger))
    with pytest.raises(IntegrityError) as failed:
        await services.messages.send_message(susan.id, susan.id, "between us alone")
    assert "broken" in str(failed.value)
    assert "between us alone" not in str(failed.value)


async def test_queued_sends_to_a_locked_file_are_refused_in_time(settings: Settings, susan: User) -> None:
    """Including those at the end of the queue."""
    services = assemble(settings, Timeouts(sqlite_busy=1.2))
    with locked(settings):
        sends = [services.messages.send_message(susan.id, susan.id, f"{number}") for number in range(20)]
        async with within(2):
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(each) for each in outcomes] == [Unavailable] * 20
    assert await services.messages.send_message(susan.id, susan.id, "hello")
    assert [post.body for post in (await services.messages.inbox(susan.id, 30)).rows] == ["hello"]
    await services.close()


async def test_sweep_without_subscribers_does_not_log_recovery(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    caplog.set_level("INFO", "microblog_rt")
    event.listen(services.storage.engines[0], "do_execute", fail)
    with pytest.raises(Unavailable):
        await services.accounts.ids(["susan"])
    await services.feed.sweep_once()
    assert [each.getMessage() for each in caplog.records] == ["database unavailable for reads: disk I/O error"]
    event.remove(services.storage.engines[0], "do_execute", fail)
    await services.accounts.ids(["susan"])
    assert caplog.messages[1:] == ["database available again for reads"]


async def test_mixed_failures_are_one_outage_in_the_log(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Good and bad connections of one pool."""
    caplog.set_level("INFO", "microblog_rt")
    services = assemble(settings, Timeouts(database_recovered=3600))
    numbers = iter(range(100))

    def fail_often(*_: Any) -> None:
        if next(numbers) % 2:
            raise sqlite3.OperationalError("disk I/O error")

    event.listen(services.storage.engines[0], "do_execute", fail_often)
    outcomes = [await asyncio.gather(services.accounts.ids(["susan"]), return_exceptions=True) for _ in range(10)]
    assert [isinstance(each[0], Unavailable) for each in outcomes] == [False, True] * 5
    assert caplog.messages == ["database unavailable for reads: disk I/O error"]
    services.storage._failed_at["reads"] = float("-inf")
    await services.accounts.ids(["susan"])
    assert caplog.messages[1:] == ["database available again for reads"]
    await services.close()


async def test_emptied_wal_is_cut_to_its_limit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long read lets the WAL grow; it would keep that size forever."""
    assert settings.sqlite_file is not None
    wal = settings.sqlite_file.with_name("test.db-wal")
    monkeypatch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS[:-1], "journal_size_limit=65536"))
    services = assemble(settings)
    await services.storage.write(lambda tx: tx.exec_driver_sql("CREATE TABLE filler (content BLOB)"))

    async def fill() -> None:
        await services.storage.write(lambda tx: tx.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(500000))"))

    with closing(sqlite3.connect(settings.sqlite_file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM filler").fetchone()
        for _ in range(20):
            await fill()
    assert wal.stat().st_size > 8_000_000
    for _ in range(2):
        await fill()
    assert wal.stat().st_size < 2_000_000
    await services.close()


def test_every_connection_limits_the_wal() -> None:
    assert sqlite.PRAGMAS[-1] == f"journal_size_limit={64 * 1024 * 1024}"

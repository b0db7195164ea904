"""The bus in an SQLite file, beyond the contract of every bus (``test_every_bus.py``)."""

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from microblog_rt.bus import connect, sqlite
from microblog_rt.errors import Misconfigured
from tests.bus.backends import SqliteBackend
from tests.buses import CHANGED, GAP, PATIENT, CapturedLog, Process, idle_process, receiving_process, running, signal
from tests.clients import DEADLINE


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> SqliteBackend:
    return SqliteBackend(request)


async def test_commits_between_two_polls_are_one_change(backend: SqliteBackend) -> None:
    async with (
        receiving_process(backend.url, backend.database_url, users=[1]) as receiver,
        idle_process(backend.url, backend.database_url) as sender,
    ):
        for _ in range(3):
            await backend.publish(sender, signal(1))  # never yields to the event loop
        await receiver.until_received(CHANGED)
        assert receiver.received.items == [CHANGED]


async def test_polls_without_a_commit_yield_nothing(backend: SqliteBackend) -> None:
    timeouts = replace(PATIENT, heartbeat_interval=0.05)
    async with receiving_process(backend.url, backend.database_url, timeouts, users=[1]) as process:
        await process.until_next_heartbeat()
        assert process.received.items == []
        await backend.publish(process, signal(1))
        await process.until_received(CHANGED)


async def test_file_is_polled_often_only_with_subscribers(backend: SqliteBackend) -> None:
    timeouts = replace(PATIENT, heartbeat_interval=3600)
    async with (
        receiving_process(backend.url, backend.database_url, timeouts, users=[]) as idle,
        receiving_process(backend.url, backend.database_url, timeouts, users=[1]) as busy,
    ):
        await commit_often(backend, busy)
        assert idle.received.items == []
        idle.bus.subscribe(1)
        await idle.until_received(CHANGED)
        assert idle.received.items == [CHANGED]
        idle.bus.subscribe(2)
        for user_id in (1, 2):
            idle.bus.unsubscribe(user_id)
        idle.received.items.clear()
        await backend.publish(busy, signal(1))
        await idle.until_received(CHANGED)  # ends the poll that was running
        await commit_often(backend, busy)
        assert idle.received.items == [CHANGED]


async def commit_often(backend: SqliteBackend, process: Process) -> None:
    """Commit four times; each commit is seen by ``process`` before the next."""
    for number in range(1, 5):
        process.received.items.clear()
        await backend.publish(process, signal(number))
        await process.until_received(CHANGED)


async def test_unreadable_file_is_retried_and_yields_a_gap(backend: SqliteBackend, log: CapturedLog) -> None:
    moved = backend.path.with_name("moved")
    backend.path.rename(moved)
    timeouts = replace(PATIENT, broker_retry_max=0.1)
    async with idle_process(backend.url, backend.database_url, timeouts) as process, running(process.receive()):
        await log.until("SQLite file unavailable for receiving changes: ")
        assert not backend.path.exists()
        moved.rename(backend.path)
        await process.until_received(GAP)


async def test_closing_events_closes_connection_and_thread(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only connection that closes last would leave the WAL beside the file."""
    close = sqlite._VersionReader.close

    def close_slowly(reader: sqlite._VersionReader) -> None:
        time.sleep(0.1)
        close(reader)

    monkeypatch.setattr(sqlite._VersionReader, "close", close_slowly)
    timeouts = replace(PATIENT, sqlite_busy=DEADLINE)
    async with receiving_process(backend.url, backend.database_url, timeouts, users=[1]) as process:
        await backend.publish(process, signal(1))
        await process.until_received(CHANGED)
        assert threads()
        assert open_files(backend)
    assert not open_files(backend)
    async with asyncio.timeout(DEADLINE):
        while threads():
            await asyncio.sleep(0.01)


def open_files(backend: SqliteBackend) -> list[Path]:
    files = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [each for each in files if each.name.startswith(backend.path.name)]


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("sqlite-bus")]


@pytest.mark.parametrize("database_url", ["", "postgresql+asyncpg://host/blog"])
def test_database_that_is_no_sqlite_file_is_refused(database_url: str) -> None:
    with pytest.raises(Misconfigured, match="MICROBLOG_BUS_URL: sqlite:// requires the database to be an SQLite file"):
        connect("sqlite://", database_url)

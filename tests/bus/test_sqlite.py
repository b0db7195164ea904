"""The bus in an SQLite file, beyond what every bus does (``test_every_bus.py``)."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from microblog_rt.bus import connect, heartbeat, outage, sqlite
from microblog_rt.errors import Misconfigured
from tests.bus.backends import OnSqlite
from tests.buses import CHANGED, GAP, Said, listening, signal, silent
from tests.clients import DEADLINE


@pytest.fixture
def world(request: pytest.FixtureRequest) -> OnSqlite:
    return OnSqlite(request)


async def test_many_commits_between_two_looks_are_one_change(world: OnSqlite) -> None:
    async with listening(world.url, world.database_url, users=[1]) as here, silent(world.url, world.database_url) as by:
        for _ in range(3):
            await world.tell(by, signal(1))  # which never gives way to a look
        await here.hears(CHANGED)
        assert here.heard.all == [CHANGED]


async def test_it_is_looked_at_often_only_while_somebody_listens(
    world: OnSqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 3600)
    async with (
        listening(world.url, world.database_url, users=[]) as here,
        listening(world.url, world.database_url, users=[1]) as busy,
    ):
        for number in range(1, 5):
            busy.heard.all.clear()
            await world.tell(busy, signal(number))
            await busy.hears(CHANGED)
        assert here.heard.all == []
        here.bus.subscribe(1)
        await here.hears(CHANGED)
        assert here.heard.all == [CHANGED]


async def test_a_file_that_cannot_be_read_is_waited_for_and_is_a_gap(
    world: OnSqlite, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "LONGEST", 0.1)
    aside = world.path.with_name("aside")
    world.path.rename(aside)
    async with silent(world.url, world.database_url) as here:
        hearing = asyncio.create_task(here.events())
        await said.until("The SQLite file is away")
        assert not world.path.exists()
        aside.rename(world.path)
        await here.hears(GAP)
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def test_its_connection_and_its_thread_end_with_the_listening(
    world: OnSqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that only reads, and is the last to close, would leave what was written last beside the file."""
    close = sqlite._File.close

    def close_slowly(file: sqlite._File) -> None:
        time.sleep(0.1)
        close(file)

    monkeypatch.setattr(sqlite._File, "close", close_slowly)
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", DEADLINE)
    async with listening(world.url, world.database_url, users=[1]) as here:
        await world.tell(here, signal(1))
        await here.hears(CHANGED)
        assert threads()
        assert open_files(world)
    assert not open_files(world)
    async with asyncio.timeout(DEADLINE):
        while threads():
            await asyncio.sleep(0.01)


def open_files(world: OnSqlite) -> list[Path]:
    every = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [each for each in every if each.name.startswith(world.path.name)]


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("sqlite-bus")]


@pytest.mark.parametrize("database_url", ["", "postgresql+asyncpg://host/blog"])
def test_a_database_that_is_no_file_is_refused(database_url: str) -> None:
    with pytest.raises(Misconfigured, match="MICROBLOG_BUS_URL: sqlite:// wants the database to be an SQLite file"):
        connect("sqlite://", database_url)

"""The bus through PostgreSQL, beyond what every bus does (``test_every_bus.py``)."""

import asyncio
import sys
from collections.abc import AsyncIterator

import asyncpg
import pytest

from microblog_rt.bus import MemoryBus, connect
from microblog_rt.bus import postgresql as backend
from microblog_rt.errors import Misconfigured
from tests.bus.backends import OnPostgresql
from tests.buses import GAP, NONE_OF_OURS, Said, listening, plain, running, signal, silent
from tests.clients import DEADLINE

DATABASE = "postgresql+asyncpg://ann:s3cret@db:6432/blog?ssl=require"


@pytest.fixture
def world(request: pytest.FixtureRequest) -> OnPostgresql:
    return OnPostgresql(request)


@pytest.fixture
async def raw(world: OnPostgresql) -> AsyncIterator["asyncpg.Connection"]:
    """The database itself, past the bus."""
    connection = await asyncpg.connect(world.database_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


async def test_what_is_no_wake_up_is_ignored_and_said_once(
    world: OnPostgresql, raw: "asyncpg.Connection", said: Said
) -> None:
    async with listening(world.url, world.database_url) as here, silent(world.url, world.database_url) as there:
        for packed in NONE_OF_OURS:
            await raw.execute("SELECT pg_notify($1, $2)", backend.CHANNEL, packed.decode(errors="replace"))
        await world.tell(there, signal(1))
        await here.hears(plain(signal(1)))
    assert here.heard.all == [plain(signal(1))]
    assert said.times("no signal-up") == 1


async def test_databases_of_one_server_are_different_installations(
    world: OnPostgresql, request: pytest.FixtureRequest
) -> None:
    elsewhere = OnPostgresql(request)
    async with (
        listening(world.url, world.database_url) as here,
        listening(elsewhere.url, elsewhere.database_url) as there,
    ):
        await world.tell(there, signal(1))
        await elsewhere.tell(here, signal(2))
        await here.hears(plain(signal(1)))
        await there.hears(plain(signal(2)))
    assert (here.heard.all, there.heard.all) == ([plain(signal(1))], [plain(signal(2))])


async def test_closing_leaves_no_connection(world: OnPostgresql) -> None:
    async with listening(world.url, world.database_url):
        assert len(await world.listening()) == 1
    async with asyncio.timeout(DEADLINE):
        while await world.listening():
            await asyncio.sleep(0.01)


async def test_a_password_stands_in_no_log(world: OnPostgresql, said: Said) -> None:
    stranger = world.database_url.replace("postgres@", "stranger:s3cret@")
    async with silent("postgresql://", stranger) as here, running(here.events()):
        await said.until("not heard")
    assert said.times("stranger") == 1
    assert said.times("s3cret") == 0


async def test_of_too_many_that_wait_all_are_forgotten_and_it_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "MOST", 3)
    heard = backend._Heard()
    for number in range(5):
        heard.add(signal(number))
    words = [await heard.next(0) for _ in range(4)]
    assert [plain(each) for each in words if each] == [GAP, plain(signal(3)), plain(signal(4))]


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
def test_what_an_address_leaves_out_is_the_databases_own(url: str, address: dict[str, str]) -> None:
    found = backend._address(url, DATABASE)
    del found["server_settings"]
    assert found == {"database": "blog", "ssl": "require", **address}


def test_nobody_is_asked_for_tls_on_this_machine_alone() -> None:
    here = "postgresql+asyncpg://127.0.0.1/blog"
    assert backend._address("postgresql://", here)["ssl"] == "disable"
    assert backend._address("postgresql://", f"{here}?ssl=require")["ssl"] == "require"
    assert "ssl" not in backend._address("postgresql://direct", here)


@pytest.mark.parametrize(
    ("url", "database_url"),
    [
        ("postgresql://:s3cret@direct/another", DATABASE),
        ("postgresql://:s3cret@direct:99999", DATABASE),
        ("postgresql://:s3cret@direct", "sqlite+aiosqlite:///blog.db"),
        ("postgresql://:s3cret@direct", ""),
    ],
)
def test_an_address_of_another_database_is_refused_without_its_password(url: str, database_url: str) -> None:
    with pytest.raises(Misconfigured, match="MICROBLOG_BUS_URL: wants the database to be PostgreSQL too") as refused:
        connect(url, database_url)
    assert "s3cret" not in str(refused.value)


def test_without_asyncpg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    assert isinstance(connect("memory://"), MemoryBus)
    with pytest.raises(Misconfigured, match=r"pip install 'microblog-rt\[postgres\]'"):
        connect("postgresql://", DATABASE)

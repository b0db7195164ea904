"""Fixtures that several test modules share. Real parts: a real file, a real server process, real sockets."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from microblog_rt.app import Parts, assemble
from microblog_rt.models import Base, User
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations
from tests.living import Server
from tests.services import PostgreSQL

# Else pytest-asyncio asks for a loop where there is none, which Python 3.11 makes, and nobody closes.
asyncio.set_event_loop(None)

PASSWORD = "correct horse"
KEY = "a key for tests alone, long enough"


SQLITE, POSTGRESQL = "sqlite", "postgresql"
TABLES = ", ".join(f'"{each}"' for each in Base.metadata.tables)
EMPTIED = f"SET lock_timeout = '10s'; TRUNCATE {TABLES} RESTART IDENTITY CASCADE"  # whoever left something open is told


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # What asks for a database runs on both, unless it is marked.
    if "database" in metafunc.fixturenames:
        kinds = [SQLITE] if metafunc.definition.get_closest_marker("sqlite") else [SQLITE, POSTGRESQL]
        metafunc.parametrize("database", kinds, indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated, empty database."""
    if request.param == POSTGRESQL:
        url: str = request.getfixturevalue("postgresql_migrated")
        postgresql: PostgreSQL = request.getfixturevalue("postgresql")
        postgresql.execute(url, EMPTIED)
        return url
    url = f"sqlite+aiosqlite:///{tmp_path}/test.db"
    migrations.upgrade(url)
    return url


@pytest.fixture(scope="session")
def postgresql_migrated(postgresql: PostgreSQL) -> str:
    """A migrated database, that each test finds empty."""
    url = postgresql.database()
    migrations.upgrade(url)
    return url


@pytest.fixture
def settings(database: str) -> Settings:
    """Settings on a migrated, empty database."""
    return Settings(database_url=database, secret_key=KEY)


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    """Everything below the web, on a database of its own."""
    parts = assemble(settings)
    yield parts
    await parts.storage.close()


@pytest.fixture
async def susan(parts: Parts) -> User:
    return await parts.accounts.register("susan", PASSWORD)


@pytest.fixture
async def john(parts: Parts) -> User:
    return await parts.accounts.register("john", PASSWORD)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One PostgreSQL for all tests: who needs it empty takes a new ``database``, who stops it starts it again."""
    with PostgreSQL() as postgresql:
        yield postgresql


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server process of its own, with the demo accounts, in an empty folder."""
    with Server(tmp_path) as server:
        yield server

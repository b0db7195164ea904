"""Fixtures for all test modules. Real databases, server processes and sockets."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from microblog_rt import security_log
from microblog_rt.models import Base, User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations
from microblog_rt.timeouts import Timeouts
from tests import compiled_templates as compiled_templates
from tests import fast
from tests.server_process import DEADLINE, Server
from tests.services import PostgreSQL
from tests.timing import LoadMonitor

# Otherwise pytest-asyncio asks for the current loop, and Python 3.11 creates one that is never closed.
asyncio.set_event_loop(None)

TESTS = Path(__file__).parent

# Tests call servers of this machine alone. httpx would load all certificate authorities for each client: 60 ms.
os.environ["SSL_CERT_DIR"] = str(TESTS)

# A pause of the machine is not a failure.
hypothesis.settings.register_profile(
    "patient", hypothesis.settings.default, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

PASSWORD = "correct horse"
KEY = "a-key-for-tests-alone-long-enough"


LONGEST = {
    "browser",
    "proof",
    "wheel",
    "test_client.py",
    "test_http_streams.py",
    "test_openapi.py",
    "test_transports.py",
}

SQLITE, POSTGRESQL = "sqlite", "postgresql"
TABLES = ", ".join(f'"{each}"' for each in Base.metadata.tables)
EMPTIED = f"SET lock_timeout = '40s'; TRUNCATE {TABLES} RESTART IDENTITY CASCADE"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proof", action="store_true", help="the full form of what is otherwise tried in part")
    parser.addoption("--fast", action="store_true", help="only tests that start no process, on SQLite alone")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--proof"):
        os.environ.setdefault("OPENAPI_CASES", "500")  # read when the tests are imported


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The files that take longest start first, or one worker would wait for the other at the end.
    items.sort(key=lambda item: item.path.relative_to(TESTS).parts[0] not in LONGEST)
    if config.getoption("--fast"):
        items[:], slow = fast.split(items)
        config.hook.pytest_deselected(items=slow)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # Tests with a database run on both, unless they are marked.
    if "database" in metafunc.fixturenames:
        sqlite_only = metafunc.config.getoption("--fast") or metafunc.definition.get_closest_marker("sqlite")
        kinds = [SQLITE] if sqlite_only else [SQLITE, POSTGRESQL]
        metafunc.parametrize("database", kinds, indirect=True)


@pytest.fixture(autouse=True)
def security_log_restored() -> Iterator[None]:
    """Commands that a test runs in this process add handlers to the security log; the next test starts without."""
    log, origin = security_log.log, security_log.origin.set("")
    before, level = list(log.handlers), log.level
    yield
    security_log.origin.reset(origin)
    log.handlers[:] = before
    log.setLevel(level)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated, empty database."""
    if request.param == POSTGRESQL:
        empty: str = request.getfixturevalue("postgresql_emptied")
        return empty
    shutil.copyfile(request.getfixturevalue("sqlite_migrated"), tmp_path / "test.db")
    return f"sqlite+aiosqlite:///{tmp_path}/test.db"


@pytest.fixture(scope="session")
def sqlite_migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "empty.db"
    migrations.upgrade(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_migrated(postgresql: PostgreSQL) -> str:
    """A migrated database, emptied for each test."""
    url = postgresql.database()
    migrations.upgrade(url)
    return url


@pytest.fixture
def postgresql_emptied(postgresql: PostgreSQL, postgresql_migrated: str) -> str:
    """The URL of a migrated, empty database in PostgreSQL."""
    postgresql.execute(postgresql_migrated, EMPTIED)
    return postgresql_migrated


@pytest.fixture
def settings(database: str) -> Settings:
    """Settings on a migrated, empty database."""
    return Settings(database_url=database, secret_key=KEY)


# A slow machine is no outage: most tests wait for their database for as long as it takes.
PATIENT = Timeouts(
    database_silence=DEADLINE,
    sqlite_busy=DEADLINE,
    postgres_connect=DEADLINE,
    postgres_lock=DEADLINE,
    sign_in_wait=0,
    sign_in_delay=0,
)


@pytest.fixture
def timeouts() -> Timeouts:
    """The time-outs of ``services``; a test of time-outs overrides them."""
    return PATIENT


@pytest.fixture
async def services(settings: Settings, timeouts: Timeouts) -> AsyncIterator[Services]:
    """The services, on a database of their own."""
    services = assemble(settings, timeouts)
    yield services
    await services.feed.close()
    await services.storage.close()


@pytest.fixture
async def susan(services: Services) -> User:
    return await services.accounts.register("susan", PASSWORD)


@pytest.fixture
async def john(services: Services) -> User:
    return await services.accounts.register("john", PASSWORD)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One PostgreSQL for all tests. A test that stops it must start it again."""
    with PostgreSQL() as postgresql:
        yield postgresql


@pytest.fixture
def load_monitor() -> Iterator[LoadMonitor]:
    """Measures load, to extend time bounds by it."""
    with LoadMonitor() as load_monitor:
        yield load_monitor


@pytest.fixture(scope="module", params=[SQLITE, POSTGRESQL])
def database_environ(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of server processes for each kind of database; empty for the default SQLite file."""
    return {} if request.param == SQLITE else dict(request.getfixturevalue("postgresql_environ"))


@pytest.fixture(scope="module")
def postgresql_environ(postgresql: PostgreSQL) -> dict[str, str]:
    """The settings of server processes for an empty database in PostgreSQL."""
    url = postgresql.database()
    migrations.upgrade(url)
    return {"MICROBLOG_DATABASE_URL": url, "MICROBLOG_SECRET_KEY": KEY}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server process of its own, with the demo accounts, in an empty folder."""
    with Server(tmp_path) as server:
        yield server

"""A real installation for every backend: its broker, how something is told in it, and how it is broken."""

import asyncio
import os
import re
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis as RawClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from microblog_rt import bus
from microblog_rt.bus.base import Transaction
from microblog_rt.protocol import Signal
from tests.buses import CHANGED, Process, plain
from tests.clients import DEADLINE
from tests.services import PostgreSQL, Redis

BACKENDS = sorted(
    path.stem for path in Path(bus.__file__).parent.glob("*.py") if re.search(r"\(Bus\):$", path.read_text(), re.M)
)


class OnMemory:
    """``crosses``: others hear; ``over_network``: and it can be lost on its way."""

    crosses = False
    over_network = False
    url = "memory://"
    database_url = ""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        """There is nothing."""

    async def tell(self, process: Process, wake: Signal, commit: bool = True) -> None:
        """As a sender does: in a transaction that is committed, and afterwards."""
        async with self._transaction(commit) as tx:
            process.bus.stage(tx, wake)
        if commit:
            await process.publish(wake)

    def heard(self, wake: Signal) -> Any:
        """What the others hear of it."""
        return plain(wake)

    @asynccontextmanager
    async def _transaction(self, commit: bool) -> AsyncIterator[Transaction]:
        yield NoTransaction()

    async def cut(self) -> None:
        """End the connections that listen."""
        raise NotImplementedError

    async def hang(self) -> None:
        """Have what listens there stand still."""
        raise NotImplementedError

    async def go_on(self) -> None:
        """Undo that."""
        raise NotImplementedError


class NoTransaction:
    async def exec_driver_sql(self, statement: str, parameters: Any) -> Any:
        raise AssertionError("nothing is staged here")


class OnRedis(OnMemory):
    crosses = over_network = True

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.redis: Redis = request.getfixturevalue("redis")
        self.url = self.redis.url

    async def cut(self) -> None:
        async with RawClient.from_url(self.url) as raw:
            assert await raw.client_kill_filter(_type="pubsub")

    async def hang(self) -> None:
        self.redis.pause()

    async def go_on(self) -> None:
        self.redis.resume()


class OnPostgresql(OnMemory):
    """One that hangs is the process of the server that serves the listening: the database itself goes on."""

    crosses = over_network = True
    url = "postgresql://"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        self.database_url = server.database()
        self._engine = create_async_engine(self.database_url, poolclass=NullPool)
        self._hanging: list[int] = []

    @asynccontextmanager
    async def _transaction(self, commit: bool) -> AsyncIterator[Transaction]:
        async with self._engine.connect() as connection:
            yield connection
            await (connection.commit() if commit else connection.rollback())

    async def listening(self) -> list[int]:
        """The server's processes for those who listen."""
        async with self._engine.connect() as connection:
            return list((await connection.execute(text(LISTENING))).scalars())

    async def cut(self) -> None:
        for pid in await self.listening():
            async with self._engine.connect() as connection:
                await connection.execute(text(f"SELECT pg_terminate_backend({pid})"))

    async def hang(self) -> None:
        self._hanging = await hung(self.database_url)

    async def go_on(self) -> None:
        hanging, self._hanging = self._hanging, []
        go_on(hanging)


# Of this database: what listened to another may be ending still.
LISTENING = """SELECT pid FROM pg_stat_activity
WHERE application_name = 'microblog-rt bus' AND datname = current_database()"""
IDLE = f"SELECT count(*) FROM ({LISTENING} AND wait_event = 'ClientRead') AS idle"


async def hung(database_url: str) -> list[int]:
    """PostgreSQL's processes for those who listen, made to stand still: not in a transaction, which others wait for."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                pids = [each["pid"] for each in await connection.fetch(LISTENING)]
                for pid in pids:
                    _signal(pid, signal.SIGSTOP)
                while not all(_stands_still(pid) for pid in pids):
                    await asyncio.sleep(0.001)
                if await connection.fetchval(IDLE) == len(pids):
                    return pids
                go_on(pids)
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


def go_on(pids: list[int]) -> None:
    """Undo that."""
    for pid in pids:
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended meanwhile
        os.kill(pid, number)


def _stands_still(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZ"
    except (FileNotFoundError, ProcessLookupError):
        return True


class OnSqlite(OnMemory):
    crosses = True
    url = "sqlite://"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.path = Path(request.getfixturevalue("tmp_path")) / "bus.db"
        self.database_url = f"sqlite+aiosqlite:///{self.path}"
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE told (user_id INTEGER)")

    @asynccontextmanager
    async def _transaction(self, commit: bool) -> AsyncIterator[Transaction]:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("INSERT INTO told VALUES (1)")
            yield NoTransaction()
            connection.commit() if commit else connection.rollback()

    def heard(self, wake: Signal) -> Any:
        return CHANGED


WORLDS = {"memory": OnMemory, "redis": OnRedis, "postgresql": OnPostgresql, "sqlite": OnSqlite}

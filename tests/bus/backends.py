"""Every backend with a real broker: how a process publishes through it, and how its connections are broken."""

import asyncio
import os
import re
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis as RawClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from microblog_rt import bus
from microblog_rt.protocol import Signal
from tests.buses import CHANGED, Process, comparable
from tests.clients import DEADLINE
from tests.services import PostgreSQL, Redis

BACKENDS = sorted(
    path.stem for path in Path(bus.__file__).parent.glob("*.py") if re.search(r"\(Bus\):$", path.read_text(), re.M)
)


class MemoryBackend:
    """``crosses_processes``: other processes receive; ``over_network``: the connection can be lost."""

    crosses_processes = False
    over_network = False
    url = "memory://"
    database_url = ""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        """There is no broker to start."""

    async def publish(self, process: Process, signal: Signal, commit: bool = True) -> None:
        """Write in a transaction; after its commit, publish ``signal``."""
        await self._write(commit)
        if commit:
            process.publish(signal)

    async def _write(self, commit: bool) -> None:
        """Only a bus that notices commits needs one."""

    def received(self, signal: Signal) -> Any:
        """The event that other processes receive for ``signal``."""
        return comparable(signal)

    async def disconnect(self) -> None:
        """End the connections that receive."""
        raise NotImplementedError

    async def pause(self) -> None:
        """Suspend whatever serves the connections that receive."""
        raise NotImplementedError

    async def resume(self) -> None:
        """Undo ``pause``."""
        raise NotImplementedError


class RedisBackend(MemoryBackend):
    crosses_processes = over_network = True

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.redis: Redis = request.getfixturevalue("redis")
        self.url = self.redis.url

    async def disconnect(self) -> None:
        async with RawClient.from_url(self.url) as raw:
            assert await raw.client_kill_filter(_type="pubsub")

    async def pause(self) -> None:
        self.redis.pause()

    async def resume(self) -> None:
        self.redis.resume()


class PostgresqlBackend(MemoryBackend):
    """``pause`` suspends the server's processes for the listening connections only: the database itself answers."""

    crosses_processes = over_network = True
    url = "postgresql://"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        self.database_url = server.database()
        self._engine = create_async_engine(self.database_url, poolclass=NullPool)
        self._suspended: list[int] = []

    async def listening_pids(self) -> list[int]:
        """The server's processes for the listening connections."""
        async with self._engine.connect() as connection:
            return list((await connection.execute(text(LISTENING))).scalars())

    async def disconnect(self) -> None:
        for pid in await self.listening_pids():
            async with self._engine.connect() as connection:
                await connection.execute(text(f"SELECT pg_terminate_backend({pid})"))

    async def pause(self) -> None:
        self._suspended = await suspend_listening(self.database_url)

    async def resume(self) -> None:
        suspended, self._suspended = self._suspended, []
        resume(suspended)


# Of this database only: connections that listened to another one may still be ending.
LISTENING = """SELECT pid FROM pg_stat_activity
WHERE application_name = 'microblog-rt bus' AND datname = current_database()"""
IDLE = f"SELECT count(*) FROM ({LISTENING} AND wait_event = 'ClientRead') AS idle"


async def suspend_listening(database_url: str) -> list[int]:
    """Suspend PostgreSQL's processes for the listening connections, outside of transactions that others wait for."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                pids = [each["pid"] for each in await connection.fetch(LISTENING)]
                for pid in pids:
                    _signal(pid, signal.SIGSTOP)
                while not all(_is_stopped(pid) for pid in pids):
                    await asyncio.sleep(0.001)
                if await connection.fetchval(IDLE) == len(pids):
                    return pids
                resume(pids)
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


def resume(pids: list[int]) -> None:
    """Resume suspended processes."""
    for pid in pids:
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it may have ended
        os.kill(pid, number)


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZ"
    except (FileNotFoundError, ProcessLookupError):
        return True


class SqliteBackend(MemoryBackend):
    crosses_processes = True
    url = "sqlite://"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.path = Path(request.getfixturevalue("tmp_path")) / "bus.db"
        self.database_url = f"sqlite+aiosqlite:///{self.path}"
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE change (user_id INTEGER)")

    async def _write(self, commit: bool) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("INSERT INTO change VALUES (1)")
            connection.commit() if commit else connection.rollback()

    def received(self, signal: Signal) -> Any:
        return CHANGED


BACKEND_CLASSES = {
    "memory": MemoryBackend,
    "redis": RedisBackend,
    "postgresql": PostgresqlBackend,
    "sqlite": SqliteBackend,
}

"""How SQLite is opened: one writer at a time, snapshots for readers, and one thread hop a statement.

A write transaction is BEGIN IMMEDIATE on the only connection of a pool of one: writers queue here, in order,
instead of failing with "database is locked"; other processes queue in SQLite for ``BUSY_TIMEOUT``. Reads are
single statements in autocommit. ``synchronous=FULL``: what is acknowledged is on the disk.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import event, make_url, select, true
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT = 1.0  # seconds, for another process to let go of the write lock
ASKED_AGAIN = 0.2  # seconds; a wait in SQLite cannot be given up
WRITER_TIMEOUT = 30.0  # seconds; silence.py gives up long before, unless others come to their turn
READERS = 4

NAME = "sqlite"

TAKES_WRITES = select(true())  # no more can be known without writing

PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


def writer(url: str) -> AsyncEngine:
    """An engine whose transactions hold SQLite's write lock from their first moment."""
    engine = create_async_engine(
        url,
        async_creator=_creator(url, ASKED_AGAIN),
        hide_parameters=True,  # messages and hashes are nothing for a log
        pool_size=1,
        max_overflow=0,
        pool_timeout=WRITER_TIMEOUT,
    )
    event.listen(engine.sync_engine, "begin", _begin_immediate)
    return _prepared(engine)


def reader(url: str) -> AsyncEngine:
    """An engine for single statements, each its own snapshot: no BEGIN, nothing to roll back."""
    engine = create_async_engine(
        url,
        async_creator=_creator(url, BUSY_TIMEOUT),
        hide_parameters=True,
        pool_size=READERS,
        max_overflow=0,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
    )
    return _prepared(engine)


def is_trouble(error: DBAPIError) -> bool:
    """Whether ``error`` says that the file is locked, full or away, rather than that it was asked nonsense."""
    return isinstance(error, OperationalError)


def _prepared(engine: AsyncEngine) -> AsyncEngine:
    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _begin_immediate(connection: Connection) -> None:
    until = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        except OperationalError as error:
            if "locked" not in str(error.orig) or time.monotonic() >= until:
                raise


def _creator(url: str, busy_timeout: float) -> Any:
    path = make_url(url).database or ""

    async def connect() -> aiosqlite.Connection:
        connection = OneHopConnection(Path(path), busy_timeout)
        connection._thread.daemon = True
        return await connection

    return connect


class OneHopConnection(aiosqlite.Connection):
    """An aiosqlite connection whose cursors cross to its thread once a statement.

    SQLAlchemy asks for a cursor, executes, fetches and closes: four crossings of some 120 microseconds each.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        super().__init__(self._open, iter_chunk_size=64)
        self._path = path
        self._busy_timeout = busy_timeout
        self._opened: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        # Not sqlite3's implicit transactions: they begin late, and so lose updates.
        self._opened = sqlite3.connect(self._path, timeout=self._busy_timeout, isolation_level=None)
        return self._opened

    def stop(self) -> asyncio.Future[Any] | None:
        # aiosqlite forgets a connection whose opening was cancelled.
        self._tx.put_nowait((None, self._close_opened))
        return super().stop()

    def _close_opened(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def cursor(self) -> "OneHopCursor":  # type: ignore[override]
        return OneHopCursor(self)


class OneHopCursor:
    """The part of an asynchronous cursor that SQLAlchemy uses; the rows are fetched with the execution."""

    __slots__ = ("_connection", "_rows", "description", "lastrowid", "rowcount")

    def __init__(self, connection: OneHopConnection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> "OneHopCursor":
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        await self._cross(sqlite3.Cursor.execute, sql, parameters)

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        await self._cross(sqlite3.Cursor.executemany, sql, parameters)

    async def _cross(self, execute: Any, sql: str, parameters: Any) -> None:
        await self._connection._execute(self._run, execute, sql, parameters)  # type: ignore[no-untyped-call]

    def _run(self, execute: Any, sql: str, parameters: Any) -> None:
        cursor = self._connection._conn.cursor()
        execute(cursor, sql, parameters)
        self.description = cursor.description
        self._rows = cursor.fetchall() if cursor.description else []
        self.rowcount = cursor.rowcount
        self.lastrowid = cursor.lastrowid
        cursor.close()

    async def fetchall(self) -> list[Any]:
        return self._rows

    async def close(self) -> None:
        self._rows = []

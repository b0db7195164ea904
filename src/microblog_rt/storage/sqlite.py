"""SQLite: one writer thread per process, snapshots for readers, one thread hop per statement read.

Write transactions run one after the other in one thread, each BEGIN IMMEDIATE on the same connection: they queue
instead of failing with "database is locked". Those of other processes wait in SQLite for ``Timeouts.sqlite_busy``.
Reads are single statements in autocommit. ``synchronous=FULL``: what is acknowledged is on the disk.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy import create_engine, event, make_url, select, true
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from microblog_rt.timeouts import Timeouts

T = TypeVar("T")

READERS = 4

NAME = "sqlite"

TAKES_WRITES = select(true())  # cannot be known without writing

PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


class Writer:
    """Runs write transactions in order, each in one hop to the writer's thread."""

    def __init__(self, url: str, timeouts: Timeouts) -> None:
        self.engine = create_engine(
            make_url(url).set(drivername="sqlite"),
            hide_parameters=True,  # messages and password hashes do not belong in a log
            connect_args={"timeout": timeouts.sqlite_busy, "isolation_level": None, "check_same_thread": False},
            pool_size=1,
            max_overflow=0,
        )
        event.listen(self.engine, "begin", _begin_immediate)
        _set_pragmas(self.engine)
        self._thread = ThreadPoolExecutor(1, "sqlite-writer")
        self._closed = False

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction; given up (cancelled) before its commit, it is rolled back."""
        cancelled = Event()
        future = self._thread.submit(copy_context().run, self._transact, work, cancelled)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def close(self) -> None:
        """Close the connection; the transaction that runs comes to its end first."""
        if not self._closed:
            self._closed = True
            self._thread.submit(self.engine.dispose)
            await asyncio.to_thread(self._thread.shutdown)

    def _transact(self, work: Callable[[Connection], T], cancelled: Event) -> T:
        with self.engine.begin() as connection:
            result = work(connection)
            if cancelled.is_set():
                raise TimeoutError("the transaction was given up")
            return result


def reader(url: str, timeouts: Timeouts) -> AsyncEngine:
    """An engine for single statements, each its own snapshot: no BEGIN, nothing to roll back."""
    engine = create_async_engine(
        url,
        async_creator=_creator(url, timeouts.sqlite_busy),
        hide_parameters=True,
        pool_size=READERS,
        max_overflow=0,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
    )
    _set_pragmas(engine.sync_engine)
    return engine


def is_unavailable(error: DBAPIError) -> bool:
    """Whether the file is locked, full or missing, rather than the statement wrong."""
    return isinstance(error, OperationalError)


def _set_pragmas(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


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

"""SQLite: one writer thread per process, snapshots for readers, one thread hop per statement read.

Write transactions run one after the other in one thread (``group_commit.py``), each BEGIN IMMEDIATE on the same
connection: they queue instead of failing with "database is locked". Those of other processes wait in SQLite for
``Timeouts.sqlite_busy``. Reads are single statements in autocommit. ``synchronous=FULL``: what is acknowledged is on
the disk.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import aiosqlite
from aiosqlite.core import _STOP_RUNNING_SENTINEL
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from microblog_rt.storage.database_file import DatabaseFile, Replaced
from microblog_rt.storage.group_commit import GroupCommit
from microblog_rt.storage.health import Health
from microblog_rt.storage.other_commits import Mark, OtherCommits
from microblog_rt.storage.prepared import Prepared
from microblog_rt.timeouts import Timeouts

T = TypeVar("T")

READERS = 4

NAME = "sqlite"

WAL_LIMIT = 64 * 1024 * 1024  # bytes that an emptied WAL keeps; a long read may make it larger for a while

PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"journal_size_limit={WAL_LIMIT}")

# Why the file takes no writes, by primary result code.
STATES = {
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_BUSY: "locked",
}


class Writer:
    """Runs write transactions in order, in the writer's thread."""

    def __init__(self, url: str, timeouts: Timeouts) -> None:
        self._file = DatabaseFile(url)
        self._timeouts = timeouts
        self._probing = asyncio.Lock()
        self.engine = create_engine(
            make_url(url).set(drivername="sqlite"),
            creator=partial(self._file.connect, timeout=timeouts.sqlite_busy, check_same_thread=False),
            hide_parameters=True,  # messages and password hashes do not belong in a log
            pool_size=1,
            max_overflow=0,
        )
        event.listen(self.engine, "begin", _begin_immediate)
        _set_pragmas(self.engine)
        self.others = OtherCommits(url)
        self._changes = GroupCommit(self.engine, self._check_file, self.others.own_commit)
        self._closed = False

    async def run(
        self,
        work: Callable[[Connection], T],
        after_commit: Callable[[], None] | None = None,
        in_one_statement: bool = False,
    ) -> T:
        """Run ``work`` in a transaction, undone if it raises, and return its result after the commit."""
        return await self._changes.run(work, after_commit)

    async def check_others(self) -> Mark:
        """Whether other connections have committed."""
        return await self._changes.read(self.others.check)

    async def probe(self) -> None:
        """Commit a transaction that changes nothing; raises DBAPIError if the file takes no writes."""
        async with self._probing:  # so that many requests at once write once
            age = time.monotonic() - self._changes.committed
            if age > self._timeouts.write_probe or self._file.is_replaced():
                await self.run(_rewrite_first_page)

    async def close(self) -> None:
        """Close the connection; the transaction that runs comes to its end first."""
        if not self._closed:
            self._closed = True
            await self._changes.close()

    def _check_file(self) -> None:
        if self._file.is_replaced():
            raise OperationalError("COMMIT", None, Replaced())


class Lookups:
    """Executes prepared look-ups, each in one hop to a thread of its own.

    A look-up costs 90 microseconds this way, and 600 through the engine and an ORM session (measured).
    """

    def __init__(self, url: str, timeouts: Timeouts) -> None:
        self._file = DatabaseFile(url)
        self._busy_timeout = timeouts.sqlite_busy
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "sqlite-lookups")
        self._closed = False

    async def row(self, statement: Prepared, values: Mapping[str, Any]) -> Any:
        """The first row of ``statement``, None without one. Raises DBAPIError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._row, statement, values)

    async def close(self) -> None:
        """Close the connection; the look-up that runs comes to its end first."""
        if not self._closed:
            self._closed = True
            self._thread.submit(self._close)
            await asyncio.to_thread(self._thread.shutdown)

    def _row(self, statement: Prepared, values: Mapping[str, Any]) -> Any:
        if self._connection is None:
            try:
                self._connection = self._file.connect(timeout=self._busy_timeout)
            except sqlite3.OperationalError as error:
                raise OperationalError("", None, error) from error
        return statement.on(self._connection, values)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


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


async def check(writer: Writer, _reader: AsyncEngine) -> Health:
    """Raise DBAPIError if the file takes no writes. Its clock is this machine's."""
    await writer.probe()
    return Health("connected")


def state_of(error: DBAPIError) -> str:
    """Why the file takes no writes."""
    if isinstance(error.orig, Replaced):
        return "replaced"
    return STATES.get(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF, "disconnected")


def _rewrite_first_page(tx: Connection) -> None:
    version = tx.exec_driver_sql("PRAGMA user_version").scalar_one()
    tx.exec_driver_sql(f"PRAGMA user_version = {version}")


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
    file = DatabaseFile(url)

    async def connect() -> aiosqlite.Connection:
        connection = OneHopConnection(file, busy_timeout)
        connection._thread.daemon = True
        return await connection

    return connect


class OneHopConnection(aiosqlite.Connection):
    """An aiosqlite connection whose cursors cross to its thread once a statement.

    SQLAlchemy asks for a cursor, executes, fetches and closes: four crossings of some 120 microseconds each.
    """

    def __init__(self, file: DatabaseFile, busy_timeout: float) -> None:
        super().__init__(self._open, iter_chunk_size=64)
        self._file = file
        self._busy_timeout = busy_timeout
        self._opened: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        self._opened = self._file.connect(timeout=self._busy_timeout)
        return self._opened

    def stop(self) -> asyncio.Future[Any] | None:
        # aiosqlite forgets a connection whose opening was cancelled.
        self._tx.put_nowait((None, self._close_opened))
        return super().stop()

    def __del__(self) -> None:
        # Dropped, since its task was cancelled before the pool had it. aiosqlite would warn, and report the end to an
        # event loop that may be closed.
        if self._opened is not None:
            self._tx.put_nowait((None, self._opened.close))
            self._tx.put_nowait((None, lambda: _STOP_RUNNING_SENTINEL))

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

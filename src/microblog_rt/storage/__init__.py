"""The database: engines, transactions, and every query there is, filed under the noun it is about.

    sqlite.py      how SQLite is opened so that nothing acknowledged is lost
    postgres.py    how PostgreSQL is
    silence.py    how long a database that says nothing is waited for
    sql_time.py     what time it is
    clock.py       the mailbox clock
    accounts.py    users and sessions
    limits.py      how often
    messages.py    messages and the mark of reading
    notifications.py   what a user is told, and the one statement that answers a read
    restored.py    what a restored backup wants
    migrations.py  Alembic

Not here: what may be done and who is told of it (``accounts``, ``messages``, ``notifications`` a level up).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from microblog_rt import metrics
from microblog_rt.errors import Refused, Unavailable
from microblog_rt.storage import postgres, sqlite
from microblog_rt.storage.silence import SilenceTimeout

log = logging.getLogger(__name__)

T = TypeVar("T")

LEFT_ALONE = 0.3  # seconds

# Writes are few statements of Core: an ORM session about them would cost more than they do.
Transaction = AsyncConnection
Reading = AsyncSession


class Storage:
    """One database, opened; ``url`` as SQLAlchemy takes it, asynchronous driver included."""

    def __init__(self, url: str) -> None:
        self._database = sqlite if url.startswith(sqlite.NAME) else postgres
        self._writer = self._database.writer(url)
        self._reader = self._database.reader(url)
        self._patience = SilenceTimeout()
        for engine in (self._writer, self._reader):
            if self._database is postgres:  # SQLite's writers have their turn once they have the file's lock
                event.listen(engine.sync_engine, "checkout", lambda *_: self._patience.has_turn())
            event.listen(engine.sync_engine, "after_cursor_execute", lambda *_: self._patience.answered())
        self._leave_alone_until = float("-inf")
        self._in_trouble = {"written": False, "read": False}
        self._running: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction that may write: leaving the block commits, an exception rolls back."""
        async with self._asked("written"), self._writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reading]:
        """A session for reads; each statement sees what was committed when it began."""
        async with self._asked("read"), AsyncSession(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[AsyncConnection]:
        """A bare connection for the one statement that answers a read: cheaper than a session."""
        async with self._asked("read"), self._reader.connect() as connection:
            yield connection

    async def check(self) -> bool:
        """Ask the database whether it takes writes; raises Unavailable where it does not answer."""
        async with self.statement() as connection:
            return bool(await connection.scalar(self._database.TAKES_WRITES))

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin ``work``, whose end ``close`` waits for; the caller sees to what becomes of it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, which goes on to its end even where the caller is cancelled (a tab closed mid-request)."""
        task = self.begin(work)
        try:
            await asyncio.wait({task})  # shield() would forget its task, and what became of that
        except asyncio.CancelledError:
            task.add_done_callback(_hear_of)
            raise
        return task.result()

    async def close(self) -> None:
        """Wait for what is still being written, then let go of every connection."""
        while self._running:
            await asyncio.wait(self._running)
        # At once: a database that is away is taken leave of connection by connection.
        await asyncio.gather(self._writer.dispose(), self._reader.dispose())

    @asynccontextmanager
    async def _asked(self, what: str) -> AsyncIterator[None]:
        """A database that is locked, full or away is worth another try; what was begun is rolled back."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._leave_alone_until:
            raise Unavailable
        try:
            async with self._patience.waiting():
                yield
        except DBAPIError as error:
            if not self._database.is_trouble(error):
                raise
            raise self._unavailable(what, error.orig or error) from error
        except (OSError, TimeoutError, PoolTimeout) as error:
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                # No connection is to be had. Thousands who ask whether that is still so would be the next trouble.
                self._leave_alone_until = loop.time() + LEFT_ALONE
            raise self._unavailable(what, error) from error
        if self._in_trouble[what]:
            self._in_trouble[what] = False
            log.info("the database can be %s again", what)

    def _unavailable(self, what: str, error: BaseException) -> Unavailable:
        metrics.DATABASE_TROUBLE.count()
        if not self._in_trouble[what]:
            self._in_trouble[what] = True
            log.warning("the database cannot be %s: %s", what, str(error) or "no answer")
        return Unavailable()


def _hear_of(task: "asyncio.Task[Any]") -> None:
    """Take note of how it ended in the place of one who did not wait: a refusal is nobody's concern now."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, Refused):
        log.error("what somebody asked for, and did not wait for, has failed", exc_info=error)

"""The database: engines, transactions, and every query, in one module per noun.

    sqlite.py, postgres.py   how each database is opened
    group_commit.py    commits changes together on SQLite
    database_file.py   the file of an SQLite database
    group_commit.py    changes that are committed together
    other_commits.py   commits of other processes to an SQLite file
    health.py          the state of the database
    silence.py         gives up on a database that does not answer
    sql_time.py        the current time, in statements and in Python
    mailboxes.py       the mailbox clock, counters and read marks
    counters.py        which notifications are counted
    accounts.py        users and sessions
    tokens.py          access tokens
    links.py           links that can be used once
    limits.py          rate limits
    idempotency.py     writes under an Idempotency-Key
    messages.py        messages
    send.py            a send: all of the above in one change
    imports.py         rows of other applications
    prepared.py        statements that SQLite's driver executes itself
    notifications.py   notifications, and the one statement that answers a read
    export.py          everything of a user; removal.py deletes it
    pages.py           pages of rows, by key
    migrations.py      Alembic

See also: ``mailboxes.py`` one level up, through which every change of a mailbox goes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from microblog_rt import metrics
from microblog_rt.errors import InvalidText, Refused, Unavailable
from microblog_rt.storage import postgres, sqlite
from microblog_rt.storage.health import Health
from microblog_rt.storage.prepared import Prepared
from microblog_rt.storage.silence import SilenceTimeout
from microblog_rt.text import is_storable
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

T = TypeVar("T")

# A write is a plain function of a synchronous connection, and uses Core: an ORM session costs more than its statements.
Transaction = Connection
Reading = AsyncSession


class Storage:
    """One database; ``url`` as SQLAlchemy takes it, asynchronous driver included."""

    def __init__(self, url: str, timeouts: Timeouts = Timeouts()) -> None:
        self._database = sqlite if url.startswith(sqlite.NAME) else postgres
        self._timeouts = timeouts
        self._writer = self._database.Writer(url, timeouts)
        self._reader = self._database.reader(url, timeouts)
        self._lookups = sqlite.Lookups(url, timeouts) if self._database is sqlite else None
        self._silence = SilenceTimeout(timeouts)
        for engine in self.engines:
            event.listen(engine, "before_cursor_execute", _check_text)
            if self._database is postgres:
                postgres.test_idle(engine, timeouts, lambda: self._silence.silent_at)
                # SQLite's writer counts as connected once it has the write lock.
                event.listen(engine, "checkout", lambda *_: self._silence.connected())
            event.listen(engine, "after_cursor_execute", lambda *_: self._silence.answered())
        # Thousands of subscribers that read at once leave a connection for pages.
        self._feed_reads = asyncio.Semaphore(self._database.READERS - 1)
        self._refused_until = float("-inf")
        self._failing = {"writes": False, "reads": False}
        self._failed_at = {"writes": 0.0, "reads": 0.0}
        self._clocks_differ = False
        self._writes: set[asyncio.Task[Any]] = set()

    @property
    def engines(self) -> tuple[Engine, Engine]:
        """The synchronous engines of reads and of writes, for event listeners."""
        return self._reader.sync_engine, self._writer.engine

    async def write(
        self,
        work: Callable[[Transaction], T],
        after_commit: Callable[[], None] | None = None,
        *,
        in_one_statement: bool = False,
    ) -> T:
        """Run ``work`` in one write transaction and return its result after the commit.

        On SQLite it runs in the writer's thread, in one hop; on PostgreSQL under ``run_sync``. An exception rolls
        back. ``after_commit`` is called on the event loop. Completes even if the caller is cancelled (a client that
        disconnected). ``in_one_statement``: ``work`` executes a single one on PostgreSQL, which needs no transaction
        around it. Raises Unavailable.
        """
        task = self.begin_write(work, after_commit, in_one_statement=in_one_statement)
        try:
            await asyncio.wait({task})  # shield() would lose the exception of a task whose caller was cancelled
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise
        return task.result()

    def begin_write(
        self,
        work: Callable[[Transaction], T],
        after_commit: Callable[[], None] | None = None,
        *,
        in_one_statement: bool = False,
    ) -> "asyncio.Task[T]":
        """Start ``work`` as ``write`` does, without waiting; the caller looks at the task's exception."""
        task = asyncio.create_task(self._write(work, after_commit, in_one_statement))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    async def _write(
        self, work: Callable[[Transaction], T], after_commit: Callable[[], None] | None, in_one_statement: bool
    ) -> T:
        async with self._attempt("writes"):
            result: T = await self._writer.run(work, after_commit, in_one_statement)
        return result

    async def row(self, statement: Prepared, values: Mapping[str, Any]) -> Any:
        """The one row of ``statement``, a look-up of the hot path; None if there is none. Raises Unavailable."""
        async with self._attempt("reads"):
            if self._lookups is None:
                async with self._reader.connect() as connection:
                    return (await connection.execute(statement.statement, values)).one_or_none()
            self._silence.connected()
            row = await self._lookups.row(statement, values)
            self._silence.answered()
            return row

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reading]:
        """A session for reads; each statement sees what was committed when it began. Raises Unavailable."""
        async with (
            self._attempt("reads"),
            AsyncSession(self._reader, expire_on_commit=False, autoflush=False) as session,
        ):
            yield session

    @asynccontextmanager
    async def feed_read(self) -> AsyncIterator[AsyncConnection]:
        """A bare connection for the statement that answers a feed's read; few run at a time. Raises Unavailable."""
        async with self._attempt("reads"), self._feed_reads, self._reader.connect() as connection:
            yield connection

    @property
    def notices_commits(self) -> bool:
        """Whether ``is_alone`` can be known."""
        return isinstance(self._writer, sqlite.Writer)

    def is_alone(self) -> bool:
        """Whether no other process has committed since ``catch_up``; False if that cannot be known."""
        return isinstance(self._writer, sqlite.Writer) and self._writer.others.is_alone()

    async def catch_up(self, read: Callable[[], Awaitable[object]]) -> None:
        """Call ``read`` if other processes may have committed; what they committed then counts as known."""
        if isinstance(self._writer, sqlite.Writer):
            async with self._attempt("reads"):
                mark = await self._writer.check_others()
            if mark.others:
                await read()
            self._writer.others.accept(mark)

    async def health(self) -> Health:
        """The state of the database; on SQLite by a write, at most once in ``Timeouts.write_probe``."""
        kind = "writes" if self._database is sqlite else "reads"
        try:
            async with asyncio.timeout(self._timeouts.readiness), self._attempt(kind):
                health: Health = await self._database.check(self._writer, self._reader)
        except TimeoutError:
            return Health("disconnected")
        except Unavailable as error:
            cause = error.__cause__
            return Health(self._database.state_of(cause) if isinstance(cause, DBAPIError) else "disconnected")
        return health._replace(clocks_differ=self._differ(health.clock_ahead))

    async def close(self) -> None:
        """Wait for the writes that have begun, then close every connection."""
        while self._writes:
            await asyncio.wait(self._writes)
        # Concurrently: each connection to a database that does not answer takes its time.
        await asyncio.gather(self._writer.close(), self._reader.dispose())
        if self._lookups is not None:
            await self._lookups.close()

    @asynccontextmanager
    async def _attempt(self, kind: str) -> AsyncIterator[None]:
        """Turn the errors of a database that is locked, full or unreachable into Unavailable."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._refused_until:
            raise Unavailable
        try:
            async with self._silence.limited():
                yield
        except DBAPIError as error:
            if not self._database.is_unavailable(error):
                raise
            raise self._unavailable(kind, error.orig or error) from error
        except (OSError, TimeoutError, PoolTimeout) as error:
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                # Connections are refused: thousands of attempts to connect would be the next problem.
                self._refused_until = loop.time() + self._timeouts.refused_pause
            raise self._unavailable(kind, error) from error
        if self._failing[kind] and loop.time() >= self._failed_at[kind] + self._timeouts.database_recovered:
            self._failing[kind] = False
            log.info("database available again for %s", kind)

    def _differ(self, ahead: float) -> bool:
        differ = abs(ahead) > self._timeouts.clock_difference
        if differ and not self._clocks_differ:
            log.warning("clock of the database is %.1f s ahead of this host's; synchronize both", ahead)
        elif self._clocks_differ and not differ:
            log.info("clocks of the database and of this host agree again")
        self._clocks_differ = differ
        return differ

    def _unavailable(self, kind: str, error: BaseException) -> Unavailable:
        metrics.DATABASE_UNAVAILABLE.count()
        self._failed_at[kind] = asyncio.get_running_loop().time()  # good and bad connections may mix
        if not self._failing[kind]:
            self._failing[kind] = True
            log.warning("database unavailable for %s: %s", kind, str(error) or "no answer")
        return Unavailable()


def _check_text(_connection: Any, _cursor: Any, _statement: str, parameters: Any, *_: Any) -> None:
    """Raise InvalidText for what only one kind of database would store."""
    for value in chain.from_iterable(parameters if isinstance(parameters, list) else [parameters]):
        if isinstance(value, str) and not is_storable(value):
            raise InvalidText


def _log_failure(task: "asyncio.Task[Any]") -> None:
    """Log the failure of a write whose caller was cancelled, unless it is a refusal."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, Refused):
        log.error("write failed after its client disconnected", exc_info=error)

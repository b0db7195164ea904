"""PostgreSQL: READ COMMITTED for writes, autocommit for reads, a bound on every wait.

asyncpg: a send costs two thirds of what it costs through psycopg (measured). A transaction that waits too long for a
row or for an answer is given up by cutting its connection, since a server that does not answer would not answer a
request to cancel either. A single statement that such a server has received may still be executed once it goes on;
a retry with the same key then gets its result.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Connection, Engine, bindparam, event, func, make_url
from sqlalchemy import select as sql_select
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import await_only

from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.settings import LOOPBACK
from microblog_rt.storage import sql_time
from microblog_rt.storage.health import Health
from microblog_rt.storage.sql_time import NOW_AT_LAST
from microblog_rt.timeouts import Timeouts

T = TypeVar("T")

WRITERS = READERS = 5  # connections per process
QUEUE_TIMEOUT = 30.0  # seconds; silence.py gives up long before, unless others are answered
IDLE_IN_TRANSACTION = 10_000  # milliseconds, until the server ends the transaction of a process that hangs

# Errors that are temporary and not the program's: the class of a SQLSTATE, or all of it.
UNAVAILABLE = ("08", "28", "3D", "53", "57", "58", "40", "55", "25006")

NAME = "postgresql"

POLLRDHUP = getattr(select, "POLLRDHUP", 0)  # Linux; elsewhere POLLHUP, which is always reported

# "on" at a standby, and where the server or the database was made read-only.
CHECK = sql_select(func.current_setting("transaction_read_only"), NOW_AT_LAST)


class Writer:
    """Runs write transactions, each on a connection of the pool."""

    def __init__(self, url: str, timeouts: Timeouts) -> None:
        # A statement may wait for several locks; when its caller has been refused, it must not be executed any more.
        limit = {"statement_timeout": str(round(timeouts.database_silence * 1000))}
        self._engine = _engine(url, timeouts, limit, pool_size=WRITERS)
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def engine(self) -> Engine:
        return self._engine.sync_engine

    async def run(
        self,
        work: Callable[[Connection], T],
        after_commit: Callable[[], None] | None = None,
        in_one_statement: bool = False,
    ) -> T:
        """Run ``work`` in one transaction; again, if a change of the schema has made a prepared statement invalid.

        ``in_one_statement``: in autocommit, since a single statement is a transaction by itself.
        """
        engine = self._autocommit if in_one_statement else self._engine
        try:
            result = await self._run(engine, work)
        except DBAPIError as error:
            if not _has_stale_plan(error.orig):
                raise
            result = await self._run(engine, work)
        if after_commit is not None:
            after_commit()
        return result

    async def _run(self, engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
        async with engine.begin() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._engine.dispose()


def reader(url: str, timeouts: Timeouts) -> AsyncEngine:
    """An engine for single statements, each its own snapshot; repeated as the writer's transactions are."""
    engine = _engine(url, timeouts, pool_size=READERS, pool_reset_on_return=None, isolation_level="AUTOCOMMIT")
    event.listen(engine.sync_engine, "do_execute", _execute_again)
    return engine


def is_unavailable(error: DBAPIError) -> bool:
    """Whether the server is unreachable or busy, rather than the statement wrong."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(UNAVAILABLE)


def test_idle(engine: Engine, timeouts: Timeouts, silent_at: Callable[[], float]) -> None:
    """Test connections before use that were idle for long, or since before the last one that died in silence.

    A firewall that has forgotten its connections drops their packets without an answer.
    """

    @event.listens_for(engine, "checkin")
    def note_use(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def test(connection: Any, record: ConnectionPoolEntry, *_: Any) -> None:
        trusted_since = max(time.monotonic() - timeouts.postgres_idle, silent_at())
        if record.info.get("used", trusted_since) < trusted_since:
            try:
                await_only(connection.driver_connection.execute("SELECT 1", timeout=timeouts.postgres_test))
            except Exception as error:
                raise InvalidatePoolError from error


def _has_stale_plan(error: BaseException | None) -> bool:
    return type(error).__name__ == "InvalidCachedStatementError"


def _execute_again(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    try:
        cursor.execute(statement, parameters)
    except Exception as error:
        if not _has_stale_plan(error):
            raise
        context.handle_dbapi_exception(error)  # forgets the prepared statements
        context.pre_exec()
        cursor.execute(statement, parameters)
    return True


async def check(_writer: Writer, reader: AsyncEngine) -> Health:
    """Whether the server takes writes, and its clock; raises DBAPIError if it does not answer."""
    async with reader.connect() as connection:
        before = sql_time.now()
        read_only, clock = (await connection.execute(CHECK)).one()
        here = (before + sql_time.now()) / 2
    return Health("read-only" if read_only == "on" else "connected", (clock - here) / MICROSECONDS)


def state_of(_error: DBAPIError) -> str:
    """Why the server takes no writes, if it did not answer."""
    return "disconnected"


def lock(tx: Connection, subject: str) -> None:
    """Hold the advisory lock named ``subject`` until the end of the transaction."""
    tx.execute(LOCK, {"subject": subject})


LOCK = sql_select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("subject"), 0, type_=BigInteger)))


def connection_options(url: str, timeouts: Timeouts) -> dict[str, Any]:
    """asyncpg's connection options beside ``url``. Raises Misconfigured if asyncpg is not installed."""
    try:
        import asyncpg
    except ImportError:
        wanted = "pip install 'microblog-rt[postgres]'"
        raise Misconfigured(f"MICROBLOG_DATABASE_URL: PostgreSQL needs asyncpg; {wanted}") from None

    class TerminatingConnection(asyncpg.Connection):  # type: ignore[misc]
        """Cuts the connection where SQLAlchemy terminates it (it passes a time-out only then)."""

        def __init__(self, protocol: Any, transport: Any, *more: Any) -> None:
            super().__init__(protocol, transport, *more)
            self.socket = transport.get_extra_info("socket")
            _keep_alive(self.socket, timeouts)

        async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
            if timeout is None:
                with contextlib.suppress(TimeoutError):
                    await super().close(timeout=timeouts.postgres_close)
            else:
                self.terminate()

        async def set_type_codec(self, *arguments: Any, **options: Any) -> None:
            # SQLAlchemy calls this on a new connection and does not translate its errors.
            try:
                await super().set_type_codec(*arguments, **options)
            except (asyncpg.InterfaceError, asyncpg.PostgresError) as error:
                raise ConnectionError(str(error)) from error

        def _cancel_current_command(self, sent: Any, *_: Any) -> None:
            # A cancel request goes over a new connection, which would hang as well. The cut that follows suffices.
            if not sent.done():
                sent.set_result(None)

    # Loopback needs no TLS; asyncpg leaves an unretrieved exception when its TLS request is given up.
    plain = make_url(url).host in LOOPBACK and "ssl" not in make_url(url).query
    return ({"ssl": False} if plain else {}) | {
        "connection_class": TerminatingConnection,
        "timeout": timeouts.postgres_connect,
        "server_settings": {
            "application_name": "microblog-rt",
            "default_transaction_isolation": "read committed",
            "lock_timeout": str(round(timeouts.postgres_lock * 1000)),
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION),
        },
    }


def _keep_alive(connection: socket.socket, timeouts: Timeouts) -> None:
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, timeouts.keep_alive_idle)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, timeouts.keep_alive_interval)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _engine(url: str, timeouts: Timeouts, server_settings: Mapping[str, str] = {}, **options: Any) -> AsyncEngine:
    arguments = connection_options(url, timeouts)
    arguments["server_settings"] |= server_settings
    engine = create_async_engine(
        url,
        hide_parameters=True,  # messages and password hashes do not belong in a log
        max_overflow=0,
        pool_timeout=QUEUE_TIMEOUT,
        connect_args=arguments,
        **options,
    )
    event.listen(engine.sync_engine, "checkout", _discard_closed)
    return engine


def _discard_closed(connection: Any, *_: Any) -> None:
    # Known without a query. One dead connection means that the server was unreachable: all are dead.
    if connection.driver_connection.is_closed() or _has_hung_up(connection.driver_connection.socket):
        raise InvalidatePoolError


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether the server has closed the connection; asyncpg knows it only some turns of the event loop later."""
    hang_up = select.poll()
    hang_up.register(connection.fileno(), POLLRDHUP)
    return bool(hang_up.poll(0))

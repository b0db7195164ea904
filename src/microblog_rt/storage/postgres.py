"""How PostgreSQL is opened: READ COMMITTED for writes, autocommit for reads, nobody waited for without end.

asyncpg: measured, a send costs two thirds of what it costs through psycopg. A transaction that waits for a row
or for an answer longer than people would is given up; what it held is let go by cutting its connection, since
a server that does not answer does not hear a polite good-bye either.
"""

import contextlib
from typing import Any

from sqlalchemy import BigInteger, bindparam, event, func, make_url, select
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from microblog_rt.errors import Misconfigured
from microblog_rt.settings import LOOPBACK

WRITERS = READERS = 5  # connections a process
QUEUE_TIMEOUT = 30.0  # seconds; silence.py gives up long before, unless others come to their turn
GOOD_BYE = 0.3  # seconds, for a server to take leave of a connection
CONNECT_TIMEOUT = 1.2  # seconds
LOCK_TIMEOUT = 800  # milliseconds, for a row that somebody else holds
IDLE_IN_TRANSACTION = 10_000  # milliseconds, until the server ends what a process that hangs has begun

# Not the program's fault, and over some day: the class of a SQLSTATE, or all of it.
AWAY = ("08", "28", "3D", "53", "57", "58", "40", "55", "25006")

NAME = "postgresql"

# A standby does not; nor does a server, or a database, that was made read-only.
TAKES_WRITES = select(func.current_setting("transaction_read_only") == "off")


def writer(url: str) -> AsyncEngine:
    """An engine for transactions."""
    return _engine(url, pool_size=WRITERS)


def reader(url: str) -> AsyncEngine:
    """An engine for single statements, each its own snapshot."""
    return _engine(url, pool_size=READERS, pool_reset_on_return=None, isolation_level="AUTOCOMMIT")


def is_trouble(error: DBAPIError) -> bool:
    """Whether ``error`` says that the server is away, or busy, rather than that it was asked nonsense."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(AWAY)


async def lock(tx: AsyncConnection, subject: str) -> None:
    """Let nobody else who names that subject go on before the end of this transaction."""
    await tx.execute(LOCK, {"subject": subject})


LOCK = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("subject"), 0, type_=BigInteger)))


def connection_options(url: str, lock_timeout: int) -> dict[str, Any]:
    """What asyncpg is told beside ``url``; raises Misconfigured where there is none."""
    try:
        import asyncpg
    except ImportError:
        wanted = "pip install 'microblog-rt[postgres]'"
        raise Misconfigured(f"MICROBLOG_DATABASE_URL: PostgreSQL wants asyncpg; {wanted}") from None

    class Abrupt(asyncpg.Connection):  # type: ignore[misc]
        """Cut, not closed, where SQLAlchemy terminates it: that alone gives a time."""

        async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
            if timeout is None:
                with contextlib.suppress(TimeoutError):
                    await super().close(timeout=GOOD_BYE)
            else:
                self.terminate()

        async def set_type_codec(self, *arguments: Any, **options: Any) -> None:
            # SQLAlchemy readies a new connection with this, and translates nothing: one cut meanwhile is told as cut.
            try:
                await super().set_type_codec(*arguments, **options)
            except (asyncpg.InterfaceError, asyncpg.PostgresError) as error:
                raise ConnectionError(str(error)) from error

        def _cancel_current_command(self, sent: Any, *_: Any) -> None:
            # To ask a server that hangs, on a connection of its own, would hang as well. The cut that follows tells it.
            if not sent.done():
                sent.set_result(None)

    # What does not leave the machine need not ask for TLS first; asyncpg leaves a question that is given up to nobody.
    unasked = make_url(url).host in LOOPBACK and "ssl" not in make_url(url).query
    return ({"ssl": False} if unasked else {}) | {
        "connection_class": Abrupt,
        "timeout": CONNECT_TIMEOUT,
        "server_settings": {
            "application_name": "microblog-rt",
            "default_transaction_isolation": "read committed",
            "lock_timeout": str(lock_timeout),
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION),
        },
    }


def _engine(url: str, **options: Any) -> AsyncEngine:
    engine = create_async_engine(
        url,
        hide_parameters=True,  # messages and hashes are nothing for a log
        max_overflow=0,
        pool_timeout=QUEUE_TIMEOUT,
        connect_args=connection_options(url, LOCK_TIMEOUT),
        **options,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_dead)
    return engine


def _refuse_dead(connection: Any, *_: Any) -> None:
    # Known without asking. One that is dead means that the server has been away, and all of them are.
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError

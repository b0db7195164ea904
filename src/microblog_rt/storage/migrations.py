"""Alembic without alembic.ini: the revision of a database, and the upgrade to the newest.

An upgrade uses its own connection, on SQLite with foreign keys off (batch operations would delete every child row). It
is one transaction that holds SQLite's write lock or an advisory lock of PostgreSQL, so concurrent upgrades are serial.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, event, func, make_url, pool, select
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from microblog_rt.errors import Misconfigured
from microblog_rt.files import MIGRATIONS, create_private_database
from microblog_rt.storage import postgres, sqlite
from microblog_rt.timeouts import Timeouts

T = TypeVar("T")

LOCK = select(func.pg_advisory_xact_lock(func.hashtext("microblog-rt migrations")))


def head() -> str:
    """The newest revision there is."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(url: str) -> str | None:
    """The revision the database is at; None for an empty one. Raises Misconfigured if it cannot be opened."""
    if _is_sqlite(url) and not Path(make_url(url).database or "").exists():
        return None  # opening it would create it
    return _opened(url, _current)


def upgrade(url: str) -> None:
    """Bring the database to the newest revision; raises Misconfigured if it is of a newer program."""
    if _is_sqlite(url):
        create_private_database(Path(make_url(url).database or ""))
    _opened(url, _upgrade)


def check(url: str) -> None:
    """Raise Misconfigured, with the command to run, unless the database is at the newest revision."""
    revision = current(url)
    _refuse_unknown(revision)
    if revision != head():
        state = "empty" if revision is None else f"behind (at {revision}, {head()} is wanted)"
        raise Misconfigured(f"the database is {state}; run: microblog-rt db upgrade")


def _upgrade(connection: Connection) -> None:
    config = _config()
    if connection.dialect.name == postgres.NAME:
        connection.execute(LOCK)
    _refuse_unknown(_current(connection))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.dialect.name == sqlite.NAME:
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise Misconfigured(f"the migration would break {len(broken)} references; nothing was changed")
    connection.commit()


def _refuse_unknown(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise Misconfigured(f"the database is at {revision}, a revision of a newer microblog-rt; install that version")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _opened(url: str, work: Callable[[Connection], T]) -> T:
    try:
        if not _is_sqlite(url):
            return asyncio.run(_opened_there(url, work))
        with _engine(url).connect() as connection:
            return work(connection)
    except (DBAPIError, OSError, TimeoutError, ValueError, TypeError) as error:
        raise _unusable(error, make_url(url)) from None


async def _opened_there(url: str, work: Callable[[Connection], T]) -> T:
    engine = create_async_engine(
        url,
        poolclass=pool.NullPool,
        connect_args=postgres.connection_options(url, replace(Timeouts(), postgres_lock=0)),
    )
    async with engine.connect() as connection:
        return await connection.run_sync(work)


def _is_sqlite(url: str) -> bool:
    return url.startswith(sqlite.NAME)


def _unusable(error: Exception, url: URL) -> Misconfigured:
    where = url.database if _is_sqlite(url.drivername) else url.render_as_string(hide_password=True)
    return Misconfigured(f"the database cannot be used: {str(getattr(error, 'orig', error)) or 'no answer'} ({where})")


def _engine(url: str) -> Engine:
    engine = create_engine(make_url(url).set(drivername="sqlite"), poolclass=pool.NullPool)

    @event.listens_for(engine, "connect")
    def own_transactions(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA busy_timeout=30000")

    @event.listens_for(engine, "begin")
    def begin_immediate(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine

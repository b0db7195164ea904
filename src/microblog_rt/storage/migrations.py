"""Alembic without alembic.ini: which revision a database is at, and the way to the newest.

A database is changed on a connection of its own with foreign keys off (SQLite's batch operations would delete
every child row), under SQLite's write lock, so that two upgrades at once are one after the other.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, event, make_url, pool
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from microblog_rt.errors import Misconfigured
from microblog_rt.files import MIGRATIONS


def head() -> str:
    """The newest revision there is."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(url: str) -> str | None:
    """The revision the database is at; None for an empty one. Raises Misconfigured if it cannot be opened."""
    if not Path(make_url(url).database or "").exists():
        return None  # to look must not make one
    with _opened(url) as connection:
        return _current(connection)


def upgrade(url: str) -> None:
    """Bring the database to the newest revision; raises Misconfigured if it is of a newer program."""
    config = _config()
    with _opened(url) as connection:
        _refuse_unknown(_current(connection))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise Misconfigured(f"the migration would break {len(broken)} references; nothing was changed")
        connection.commit()


def check(url: str) -> None:
    """Raise Misconfigured, with the command to run, unless the database is at the newest revision."""
    revision = current(url)
    _refuse_unknown(revision)
    if revision != head():
        state = "empty" if revision is None else f"behind (at {revision}, {head()} is wanted)"
        raise Misconfigured(f"the database is {state}; run: microblog-rt db upgrade")


def _refuse_unknown(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise Misconfigured(f"the database is at {revision}, made by a newer microblog-rt; install that one")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def _current(connection: Connection) -> str | None:
    try:
        return MigrationContext.configure(connection).get_current_revision()
    except DatabaseError as error:
        raise _unusable(error, connection.engine.url) from None


def _opened(url: str) -> Connection:
    engine = _engine(url)
    try:
        return engine.connect()
    except DatabaseError as error:
        raise _unusable(error, engine.url) from None


def _unusable(error: DatabaseError, url: URL) -> Misconfigured:
    return Misconfigured(f"the database cannot be used: {error.orig} ({url.database})")


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

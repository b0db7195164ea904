"""The SQLite database of the Flask tutorial's application, of its last chapter or an earlier one; only read."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from microblog_rt.errors import Misconfigured

# The columns that each table has in all chapters with that table.
COLUMNS = {
    "user": {"id", "username", "email", "password_hash"},
    "post": {"id", "body", "timestamp", "user_id"},
    "followers": {"follower_id", "followed_id"},
    "message": {"id", "sender_id", "recipient_id", "body", "timestamp"},
    "notification": {"id", "name", "user_id", "timestamp", "payload_json"},
}
OURS = "mailbox"  # a table of this application, which has tables of these names too
BUSY_TIMEOUT = 10.0  # seconds, for a commit of the application
WAL = b"\2\2"  # at offset 18 of the file

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TutorialFile:
    """The rows as they were when the file was opened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._columns = {table: self._columns_of(table) for table in self._tables()}

    def check(self) -> None:
        """Raise Misconfigured if it is another application's."""
        if OURS in self._columns:
            raise Misconfigured("it is a database of microblog-rt; to move one, see Backup in docs/operations.md")
        for table, wanted in COLUMNS.items():
            missing = wanted - self._columns.get(table, set() if table == "user" else wanted)
            if missing:
                columns = ", ".join(sorted(missing))
                raise Misconfigured(f"it is not the tutorial's: its table {table} is missing, or has no {columns}")

    def rows(self, table: str, *columns: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a table in the order of its first column; None for a column of a later chapter."""
        known = self._columns.get(table)
        if known is not None:
            wanted = ", ".join(column if column in known else "NULL" for column in columns)
            yield from self._connection.execute(f'SELECT {wanted} FROM "{table}" ORDER BY 1')  # noqa: S608

    def count(self, table: str, where: str = "1") -> int:
        """The number of rows; 0 without that table, or without the column that ``where`` begins with."""
        known = self._columns.get(table)
        if known is None or where.split()[0] not in known | {"1"}:
            return 0
        (number,) = self._connection.execute(f'SELECT count(*) FROM "{table}" WHERE {where}').fetchone()  # noqa: S608
        return int(number)

    def _tables(self) -> list[str]:
        return [name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]

    def _columns_of(self, table: str) -> set[str]:
        return {name for (name,) in self._connection.execute("SELECT name FROM pragma_table_info(?)", [table])}


@contextmanager
def opened(path: Path) -> Iterator[TutorialFile]:
    """The database at ``path``, whose application may run meanwhile. Raises Misconfigured, also for errors of reads."""
    try:
        connection = sqlite3.connect(_uri(path), uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
        try:
            # Text that is not UTF-8 becomes text that no database stores, which the import reports.
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            connection.execute("BEGIN")  # all reads see one state
            file = TutorialFile(connection)
            file.check()
            yield file
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Misconfigured(f"{path} cannot be read: {reason}") from None
    except Misconfigured as error:
        raise Misconfigured(f"{path} cannot be imported: {error}") from None


def _uri(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(20)
    # In a WAL database that is not in use, reading would create files beside it.
    alone = head[18:] == WAL and not path.with_name(f"{path.name}-wal").exists()
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"


def moment(value: object) -> int | None:
    """A time as the tutorial stores it, in UTC without a zone, in microseconds since 1970; None if it is none."""
    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (parsed.replace(tzinfo=parsed.tzinfo or UTC) - EPOCH) // timedelta(microseconds=1)

"""Whether another connection than the writer's has committed to an SQLite database."""

import contextlib
import os
import sqlite3
from typing import NamedTuple

from sqlalchemy import make_url


class OtherCommits:
    """Notices commits of other connections: usually from the WAL's size and time, a system call of 1 microsecond.

    The writer's ``PRAGMA data_version`` changes with the commits of others alone (sqlite.org/pragma.html), and tells
    whether its own commit was the one that changed the WAL. Two commits in the same tick of the file system's clock
    (4 ms) that do not lengthen the WAL can look like one; the sweep finds those.
    """

    def __init__(self, url: str) -> None:
        self._wal = f"{make_url(url).database}-wal"
        self._seen: tuple[int, int] | None = None
        self._version: tuple[int, int] | None = None

    def is_alone(self) -> bool:
        """Whether no other connection has committed since the last ``accept``."""
        return self._seen is not None and self._seen == self._current()

    def own_commit(self, connection: sqlite3.Connection) -> None:
        """In the writer's thread, after a commit of its own."""
        current = self._current()
        with contextlib.suppress(sqlite3.Error):  # the commit has succeeded; the next poll asks again
            if self._version == _data_version(connection):
                self._seen = current

    def check(self, connection: sqlite3.Connection) -> "Mark":
        """In the writer's thread: what to accept, and whether others have committed."""
        current, version = self._current(), _data_version(connection)
        return Mark(current, version, version != self._version)

    def accept(self, mark: "Mark") -> None:
        """Note that everything that was committed before ``mark`` is known."""
        self._seen, self._version = mark.seen, mark.version

    def _current(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._wal)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


class Mark(NamedTuple):
    """A moment in a database; ``others``: connections other than the writer's may have committed before it."""

    seen: tuple[int, int] | None
    version: tuple[int, int]
    others: bool


def _data_version(connection: sqlite3.Connection) -> tuple[int, int]:
    """The connection's ``data_version``, which cannot be compared with that of another connection."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return id(connection), int(version)

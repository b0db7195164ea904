"""The file of an SQLite database, which must not be replaced while it is open."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import make_url


class Replaced(sqlite3.OperationalError):
    """The database file was replaced or deleted while it was open: what is written to it would be lost."""

    def __init__(self) -> None:
        super().__init__("the database file was replaced or deleted; restart the server")


class DatabaseFile:
    """The file of a database. It must exist, and stay the same file as when this object was created."""

    def __init__(self, url: str) -> None:
        self._path = Path(make_url(url).database or "")
        self._identity = self._current()

    def connect(self, **options: Any) -> sqlite3.Connection:
        """A new connection; never creates the file. Raises Replaced."""
        # Not sqlite3's implicit transactions: they begin late, and so lose updates.
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        connection: sqlite3.Connection = sqlite3.connect(uri, uri=True, isolation_level=None, **options)
        self._identity = self._identity or self._current()
        if self.is_replaced():
            connection.close()
            raise Replaced
        return connection

    def is_replaced(self) -> bool:
        """Whether the path leads to another file by now, or to none."""
        return self._current() != self._identity

    def _current(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

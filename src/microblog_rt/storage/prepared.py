"""Statements of the hot path: on SQLite executed by the driver itself.

SQLAlchemy compiles a statement once, but spends some 50 microseconds on each execution, while SQLite itself needs 7
(measured). So the few statements that every send executes are ``Prepared``. Events of the engine do not see them there.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from microblog_rt.errors import InvalidText
from microblog_rt.text import is_storable


class Prepared:
    """A statement that is compiled once for SQLite."""

    def __init__(self, statement: Any) -> None:
        self.statement: Executable = statement
        self._sql = ""
        self._names: Sequence[str] = ()
        self._constants: Mapping[str, Any] = {}
        self._callables: Mapping[str, Callable[[], Any]] = {}

    def row(self, tx: Connection, values: Mapping[str, Any]) -> Any:
        """Execute the statement, and return its first row; None without one. Raises DBAPIError, InvalidText."""
        if tx.dialect.name != "sqlite":
            result = tx.execute(self.statement, values)
            return result.first() if result.returns_rows else None
        return self.on(tx.connection.dbapi_connection, values)

    def on(self, connection: Any, values: Mapping[str, Any]) -> Any:
        """The same on a connection of SQLite's driver."""
        if not self._sql:
            self._compile()
        computed = {name: compute() for name, compute in self._callables.items()}
        values = {**self._constants, **computed, **values}
        for value in values.values():
            if isinstance(value, str) and not is_storable(value):
                raise InvalidText
        try:
            rows = connection.execute(self._sql, [values[name] for name in self._names]).fetchall()
        except sqlite3.Error as error:
            raise DBAPIError.instance(self._sql, None, error, sqlite3.Error, hide_parameters=True) from error
        return rows[0] if rows else None

    def _compile(self) -> None:
        compiled: Any = self.statement.compile(dialect=sqlite.dialect())  # type: ignore[attr-defined]
        self._names = compiled.positiontup
        self._callables = {name: bind.callable for name, bind in compiled.binds.items() if bind.callable}
        self._constants = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        self._sql = str(compiled)

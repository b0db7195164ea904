"""The current time: ``NOW`` in statements, ``now()`` in Python.

On PostgreSQL ``NOW`` is the server's clock, which all hosts share. SQLite's clock has only milliseconds and is this
machine's, so there ``NOW`` is ``now()``, bound once per statement.
"""

import time
from typing import Any

from sqlalchemy import BigInteger, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

MICROSECONDS_OF = "(extract(epoch FROM {}) * 1000000)::bigint"


def now() -> int:
    """This machine's wall clock, in microseconds since 1970."""
    return time.time_ns() // 1000


class Now(FunctionElement[int]):
    """The time at which the statement began, in microseconds since 1970."""

    type = BigInteger()
    inherit_cache = True


class NowAtLast(FunctionElement[int]):
    """The time at which it is evaluated, after the statement has waited for its row."""

    type = BigInteger()
    inherit_cache = True


class Later(FunctionElement[int]):
    """The greater of two numbers."""

    type = BigInteger()
    inherit_cache = True


NOW, NOW_AT_LAST = Now(), NowAtLast()
OURS = bindparam("now", callable_=lambda: now(), type_=BigInteger)


@compiles(Now)
@compiles(NowAtLast)
def _ours(element: Now | NowAtLast, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(OURS, **options)


@compiles(Now, "postgresql")
def _statement_timestamp(element: Now, compiler: SQLCompiler, **options: Any) -> str:
    return MICROSECONDS_OF.format("statement_timestamp()")


@compiles(NowAtLast, "postgresql")
def _clock_timestamp(element: NowAtLast, compiler: SQLCompiler, **options: Any) -> str:
    return MICROSECONDS_OF.format("clock_timestamp()")


@compiles(Later)
def _max(element: Later, compiler: SQLCompiler, **options: Any) -> str:
    return f"max({compiler.process(element.clauses, **options)})"


@compiles(Later, "postgresql")
def _greatest(element: Later, compiler: SQLCompiler, **options: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **options)})"

"""What time it is: ``NOW`` for statements, by the database's own clock where that is a good one, and ``now()`` for us.

On PostgreSQL several hosts share one clock so, and a host whose own is fast poisons nothing. SQLite's has
milliseconds alone, and is on this machine anyway: there it is ``now()`` that is asked, once a statement.
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
    """When a statement began, in microseconds since 1970."""

    type = BigInteger()
    inherit_cache = True


class NowAtLast(FunctionElement[int]):
    """When a statement that may have waited for a row has it."""

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

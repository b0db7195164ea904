"""Pages by key: a page begins next to a row, not after a number of rows that changes meanwhile."""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy.orm import InstrumentedAttribute

from microblog_rt.storage import Reading

T = TypeVar("T")


class Page(NamedTuple, Generic[T]):
    """The rows of one page in the order shown, and whether there are rows on either side."""

    rows: Sequence[T]
    previous: bool
    next: bool


async def page(
    reading: Reading,
    statement: Any,
    key: InstrumentedAttribute[Any],
    size: int,
    before: Any = None,
    after: Any = None,
    *,
    descending: bool = False,
) -> Page[Any]:
    """Up to ``size`` rows of ``statement`` in the order of the unique column ``key``.

    The first rows after the key ``after``, the last before ``before``, or the first of all. A row of one column is
    that column's value.
    """
    backwards = before is not None
    falling = descending != backwards
    start = before if backwards else after
    if start is not None:
        statement = statement.where(key < start if falling else key > start)
    ordered = statement.order_by(key.desc() if falling else key.asc()).limit(size + 1)
    result = await reading.execute(ordered)
    found = (result.scalars() if len(statement.column_descriptions) == 1 else result).all()
    rows, more = found[:size], len(found) > size
    if backwards:
        return Page(rows[::-1], more, True)
    return Page(rows, after is not None, more)

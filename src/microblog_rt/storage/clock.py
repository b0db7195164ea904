"""The mailbox clock: a hybrid logical clock for each user, one row, whose reading orders all that user is told.

Every transaction that changes what a user is told ticks that user's clock with its first statement, and so
locks the mailbox before it looks at anything. Commit order is clock order; nothing is ever committed behind
a cursor that somebody already holds. (Kulkarni et al., "Logical Physical Clocks", 2014.)

Only what the mailbox's own row holds may be computed in that first statement: on PostgreSQL a statement that
waited for the lock still sees its old snapshot of every other table.
"""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import case, select, update
from sqlalchemy.sql import ColumnElement

from microblog_rt.errors import NotFound
from microblog_rt.models import Mailbox
from microblog_rt.storage import Reading, Transaction

BIND_VARIABLES = 30_000
CORE = {"synchronize_session": False}


class Tick(NamedTuple):
    """A reading of a mailbox's clock, the one before it, and the unread count; microseconds."""

    clock: int
    before: int
    unread_message_count: int


def now() -> int:
    """The wall clock, in microseconds since 1970 (SQLite's own, on the same machine, has milliseconds alone)."""
    return time.time_ns() // 1000


def _ticked() -> dict[str, Any]:
    later: ColumnElement[int] = case((Mailbox.clock + 1 > now(), Mailbox.clock + 1), else_=now())
    return {"clock_before": Mailbox.clock, "clock": later}


RETURNED = (Mailbox.clock, Mailbox.clock_before, Mailbox.unread_message_count)


async def tick(tx: Transaction, user_id: int, *, unread: int = 0) -> Tick:
    """Lock ``user_id``'s mailbox and move its clock on, with ``unread`` more messages; raises NotFound."""
    statement = (
        update(Mailbox)
        .where(Mailbox.user_id == user_id)
        .values(**_ticked(), unread_message_count=Mailbox.unread_message_count + unread)
        .returning(*RETURNED)
    )
    row = (await tx.execute(statement, execution_options=CORE)).one_or_none()
    if row is None:
        raise NotFound
    return Tick(*row)


async def tick_to_mark(tx: Transaction, user_id: int, up_to: int | None) -> Tick | None:
    """Lock, and where ``up_to`` is newer than the mark of reading move both on; the reading, or None.

    ``up_to`` is clamped to the clock before the tick: nobody has read what was not there yet. None: all there is.
    """
    mark: ColumnElement[int] = Mailbox.clock.expression
    if up_to is not None:
        mark = case((Mailbox.clock < up_to, Mailbox.clock), else_=up_to)
    statement = (
        update(Mailbox)
        .where(Mailbox.user_id == user_id, mark > Mailbox.last_message_read_time)
        .values(**_ticked(), last_message_read_time=mark)
        .returning(*RETURNED)
    )
    row = (await tx.execute(statement, execution_options=CORE)).one_or_none()
    return row and Tick(*row)


async def clocks(reading: Reading, user_ids: Iterable[int]) -> dict[int, int]:
    """Where the clocks of these users stand, in as few queries as bind variables allow."""
    wanted = list(user_ids)
    found: dict[int, int] = {}
    for start in range(0, len(wanted), BIND_VARIABLES):
        some = wanted[start : start + BIND_VARIABLES]
        statement = select(Mailbox.user_id, Mailbox.clock).where(Mailbox.user_id.in_(some))
        found.update((row.user_id, row.clock) for row in await reading.execute(statement))
    return found

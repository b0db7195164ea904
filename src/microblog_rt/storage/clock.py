"""The mailbox clock: a hybrid logical clock for each user, one row, whose reading orders all that user is told.

Every transaction that changes what a user is told ticks that user's clock with its first statement, and so
locks the mailbox before it looks at anything. Commit order is clock order; nothing is ever committed behind
a cursor that somebody already holds. (Kulkarni et al., "Logical Physical Clocks", 2014.)

Only what the mailbox's own row holds may be computed in that first statement: on PostgreSQL a statement that
waited for the lock still sees its old snapshot of every other table.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import BigInteger, bindparam, case, select, update

from microblog_rt.errors import NotFound
from microblog_rt.models import Mailbox
from microblog_rt.protocol import FURTHEST
from microblog_rt.storage import Reading, Transaction
from microblog_rt.storage.sql_time import NOW_AT_LAST, Later

BIND_VARIABLES = 2**14


class Tick(NamedTuple):
    """A reading of a mailbox's clock, the one before it, and the unread count; microseconds."""

    clock: int
    before: int
    unread_message_count: int


RETURNED = (Mailbox.clock, Mailbox.clock_before, Mailbox.unread_message_count)
UP_TO = bindparam("up_to", type_=BigInteger)

# Built once: to build a statement costs more than to run it.
OF_USER = update(Mailbox).where(Mailbox.user_id == bindparam("of_user"))
TICKED = OF_USER.values(clock_before=Mailbox.clock, clock=Later(Mailbox.clock + 1, NOW_AT_LAST)).returning(*RETURNED)
TICK = TICKED.values(unread_message_count=Mailbox.unread_message_count + bindparam("more"))
MARK = case((Mailbox.clock < UP_TO, Mailbox.clock), else_=UP_TO)
TICK_TO_MARK = TICKED.where(Mailbox.last_message_read_time < MARK).values(last_message_read_time=MARK)


async def tick(tx: Transaction, user_id: int, *, unread: int = 0) -> Tick:
    """Lock ``user_id``'s mailbox and move its clock on, with ``unread`` more messages; raises NotFound."""
    row = (await tx.execute(TICK, {"of_user": user_id, "more": unread})).one_or_none()
    if row is None:
        raise NotFound
    return Tick(*row)


async def tick_to_mark(tx: Transaction, user_id: int, up_to: int | None) -> Tick | None:
    """Lock, and where ``up_to`` is newer than the mark of reading move both on; the reading, or None.

    ``up_to`` is clamped to the clock before the tick: nobody has read what was not there yet. None: all there is.
    """
    wanted = FURTHEST if up_to is None else up_to
    row = (await tx.execute(TICK_TO_MARK, {"of_user": user_id, "up_to": wanted})).one_or_none()
    return row and Tick(*row)


async def clocks(reading: Reading, user_ids: Iterable[int]) -> dict[int, int]:
    """Where the clocks of these users stand, in as few queries as bind variables allow."""
    wanted = list(user_ids)
    found: dict[int, int] = {}
    for start in range(0, len(wanted), BIND_VARIABLES):
        some = wanted[start : start + BIND_VARIABLES]
        statement = select(Mailbox.user_id, Mailbox.clock).where(Mailbox.user_id.in_(_filled_up(some)))
        found.update((row.user_id, row.clock) for row in await reading.execute(statement))
    return found


def _filled_up(some: list[int]) -> list[int]:
    """``some`` with its last repeated up to a power of two: each length is a statement to be prepared, and kept."""
    return some + some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))

"""The mailbox clock: a hybrid logical clock per user, kept in one row, whose readings order what that user sees.

Every transaction that changes what a user sees locks the user's mailbox before it reads anything else, so commit order
is clock order, and nothing is ever committed behind a cursor that a client already holds. A tick locks the row by
itself, so it may be the first statement; it computes only from that row. Whatever counts rows of other tables needs
``lock`` first: on PostgreSQL a statement that waited for a row still sees its old snapshot of every other table.
(Kulkarni et al., "Logical Physical Clocks", 2014.)
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import BigInteger, ColumnElement, any_, bindparam, delete, func, not_, null, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.dml import ReturningUpdate

from microblog_rt.errors import NotFound
from microblog_rt.models import Mailbox
from microblog_rt.storage import Reading, Transaction
from microblog_rt.storage.counters import COUNTERS, Counter
from microblog_rt.storage.prepared import Prepared
from microblog_rt.storage.sql_time import NOW_AT_LAST, Later

BIND_VARIABLES = 2**14

T = TypeVar("T")


class Tick(NamedTuple):
    """A reading of a mailbox clock and the one before it, in microseconds; the counter's value, if one moved."""

    clock: int
    before: int
    value: int = 0


# Built once: building a statement costs more than running it.
THIS_USER = Mailbox.user_id == bindparam("of_user")
TICK_EACH = (
    update(Mailbox)
    .values(
        clock_before=Mailbox.clock, clock=Later(Mailbox.clock + 1, NOW_AT_LAST + bindparam("ahead", type_=BigInteger))
    )
    .returning(Mailbox.clock, Mailbox.clock_before)
)
TICK = TICK_EACH.where(THIS_USER)
LOCK = (
    select(Mailbox.user_id)
    .where(Mailbox.user_id == any_(bindparam("user_ids", type_=ARRAY(BigInteger))))
    .order_by(Mailbox.user_id)
    .with_for_update()
)
FIRST, LAST = bindparam("first", type_=BigInteger), bindparam("last", type_=BigInteger)
MARK = bindparam("mark", type_=BigInteger)


def _counting(counter: Counter, value: Any, tick: Any = TICK) -> ReturningUpdate[Any]:
    counting: ReturningUpdate[Any] = tick.values({counter.column: value}).returning(counter.column)
    return counting


COUNT = {each: _counting(each, each.column + bindparam("delta")) for each in COUNTERS}
COUNT_PREPARED = {each: Prepared(COUNT[each]) for each in COUNTERS}
RECOUNT = {each: _counting(each, each.unread()) for each in COUNTERS}
# How many of the unread are in the interval, and the oldest of those before it.
SHOWN = {
    each: select(
        each.unread(each.position <= LAST, after=FIRST - 1),
        each.unread(each.position < FIRST, what=func.min(each.position)),
        each.mark,
        each.end,
    ).where(THIS_USER)
    for each in COUNTERS
}
# The same for an interval from the beginning: all but the newer ones, since there may be many in it.
SHOWN_UP_TO = {
    each: select(each.column - each.unread(after=LAST), null(), each.mark, each.end).where(THIS_USER)
    for each in COUNTERS
}
MARK_ITEMS = {
    each: update(each.items)
    .where(each.items.recipient_id == bindparam("of_user"), each.position.between(FIRST, LAST))
    .where(each.position > MARK, not_(each.read))
    .values(read=True)
    for each in COUNTERS
    if each.read is not None
}
MOVE_MARK = {each: update(Mailbox).where(THIS_USER).values({each.mark: MARK}) for each in COUNTERS}
MARK_READ = {each: COUNT[each].values({each.mark: MARK}) for each in COUNTERS}


def lock(tx: Transaction, user_ids: Sequence[int]) -> None:
    """Lock the mailboxes of ``user_ids``, in id order. On SQLite the transaction holds the whole database already."""
    if tx.dialect.name == "postgresql":
        tx.execute(LOCK, {"user_ids": list(user_ids)})


def tick(tx: Transaction, user_id: int, ahead: int = 0) -> Tick:
    """Lock the mailbox and move its clock on, at least to now and ``ahead`` microseconds. Raises NotFound."""
    return _ticked(tx, TICK, user_id, ahead=ahead)


def count(tx: Transaction, user_id: int, counter: Counter, delta: int, ahead: int = 0) -> Tick:
    """Tick, and add ``delta`` to the counter. Raises NotFound."""
    return _tick(COUNT_PREPARED[counter].row(tx, {"of_user": user_id, "ahead": ahead, "delta": delta}))


def count_each(
    tx: Transaction, user_ids: Sequence[int], counter: Counter, delta: ColumnElement[int], ahead: int = 0
) -> dict[int, Tick]:
    """Add ``delta``, an expression of each of these locked mailboxes, to its counter; those that changed, ticked."""
    statement = (
        _counting(counter, counter.column + delta, TICK_EACH)
        .where(delta != 0)
        .where(Mailbox.user_id.in_(padded(list(user_ids))))
        .returning(Mailbox.user_id)
    )
    rows: Any = tx.execute(statement, {"ahead": ahead})
    return {user_id: Tick(clock, before, value) for clock, before, value, user_id in rows}


def recount(tx: Transaction, user_id: int, counter: Counter, ahead: int = 0) -> Tick:
    """Tick, and count anew, in a mailbox that is locked. Raises NotFound."""
    return _ticked(tx, RECOUNT[counter], user_id, ahead=ahead)


def mark_read(tx: Transaction, user_id: int, counter: Counter, first: int, last: int, ahead: int = 0) -> Tick | None:
    """Mark the items from ``first`` to ``last`` as read and tick, in a locked mailbox; None if all of them were.

    Without an unread item before the interval, the mark moves to its end; this writes no item, however many there
    are. Otherwise the items are marked one by one, each once in its life, and the mark moves up to the oldest unread.
    Of a counter without ``read`` everything up to ``last`` is marked, also what is not counted yet.
    """
    interval = {"of_user": user_id, "first": first, "last": last}
    statement = SHOWN[counter] if first and counter.read is not None else SHOWN_UP_TO[counter]
    shown, oldest_before, marked, end = tx.execute(statement, interval).one()
    mark = min(last, end)  # what does not exist yet has not been read
    if not shown:
        if counter.read is None and mark > marked:
            tx.execute(MOVE_MARK[counter], {"of_user": user_id, "mark": mark})
        return None
    if oldest_before is not None:
        mark = oldest_before - 1
        tx.execute(MARK_ITEMS[counter], interval | {"mark": mark})
    return move_mark(tx, user_id, counter, -shown, mark, ahead)


def move_mark(tx: Transaction, user_id: int, counter: Counter, delta: int, mark: int, ahead: int = 0) -> Tick:
    """Tick, add ``delta`` to the counter and set its mark to ``mark``, in a locked mailbox. Raises NotFound."""
    return _ticked(tx, MARK_READ[counter], user_id, delta=delta, mark=mark, ahead=ahead)


def delete_items(tx: Transaction, counter: Counter, item_ids: Sequence[int]) -> dict[int, int]:
    """Delete received items from locked mailboxes; how many of them were unread, by recipient."""
    these = counter.items.id.in_(padded(list(item_ids)))
    unread = select(Mailbox.user_id, func.count()).join(counter.items, counter.is_unread).where(these)
    counts = dict(tx.execute(unread.group_by(Mailbox.user_id)).all())
    tx.execute(delete(counter.items).where(these))
    return counts


def _ticked(tx: Transaction, statement: Any, user_id: int, **values: int) -> Tick:
    return _tick(tx.execute(statement, {"of_user": user_id, **values}).one_or_none())


def _tick(row: Any) -> Tick:
    if row is None:
        raise NotFound
    return Tick(*row)


async def next_users(reading: Reading, after: int, count: int) -> Sequence[int]:
    """The ids of the next ``count`` users after the id ``after``."""
    statement = select(Mailbox.user_id).where(Mailbox.user_id > after).order_by(Mailbox.user_id).limit(count)
    return (await reading.execute(statement)).scalars().all()


async def clocks(reading: Reading, user_ids: Iterable[int]) -> dict[int, int]:
    """The clocks of these users, in as few queries as bind variables allow."""
    wanted = list(user_ids)
    found: dict[int, int] = {}
    for start in range(0, len(wanted), BIND_VARIABLES):
        some = wanted[start : start + BIND_VARIABLES]
        statement = select(Mailbox.user_id, Mailbox.clock).where(Mailbox.user_id.in_(padded(some)))
        found.update((row.user_id, row.clock) for row in await reading.execute(statement))
    return found


def padded(some: list[T]) -> list[T]:
    """``some`` padded with its last to a power of two: a connection prepares and keeps a statement per length."""
    return some + some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))

"""The exchange of two users: its pages, the list of a user's conversations, and what is unread in one.

An exchange is ordered by message id. Ids are unique, grow in each direction as the recipient's clock does, since both
are given while the recipient's mailbox is locked, and do not depend on a clock, so both users see the same order.
Timestamps are readings of two clocks, which only order what one of the two users receives.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    func,
    literal,
    not_,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, aliased

from microblog_rt.models import Mailbox, Message, User
from microblog_rt.storage import Reading, Transaction
from microblog_rt.storage.pages import Page
from microblog_rt.storage.sql_time import Later

COUNTED = 100  # unread messages of one conversation; more are shown as "99+"
SET_ASIDE_AT_ONCE = 500  # messages in one transaction, during which other writers wait on SQLite

ME, OTHER = bindparam("me", type_=BigInteger), bindparam("other", type_=BigInteger)
MARK = select(Mailbox.last_message_read_time).where(Mailbox.user_id == ME).scalar_subquery()
RECEIVED = and_(Message.recipient_id == ME, Message.sender_id == OTHER)
UNREAD = and_(RECEIVED, not_(Message.read), Message.timestamp > MARK)


class Moved(NamedTuple):
    """By how much the number of unread messages changes, and the new read mark of the mailbox."""

    delta: int
    mark: int


async def exchange(
    reading: Reading, user_id: int, other_id: int, size: int, before: int | None = None, after: int | None = None
) -> Page[Any]:
    """Up to ``size`` messages of two users, oldest first, and whether each is unread by the first of them.

    The last before the id ``before``, the first after ``after``, or the newest.
    """
    falling = after is None
    bounds = [Message.id > after] if after is not None else [Message.id < before] if before is not None else []
    order = _falling if falling else _rising
    ids = union(*(_ids(*pair, size, order, *bounds) for pair in ((ME, OTHER), (OTHER, ME))))
    found = await _lines(reading, user_id, other_id, ids, order, size + 1)
    rows, more = found[:size], len(found) > size
    return Page(rows[::-1], more, before is not None) if falling else Page(rows, True, more)


async def news(reading: Reading, user_id: int, other_id: int, size: int, received: int, sent: int) -> Page[Any]:
    """The same for what was received after the id ``received`` and sent after ``sent``, from the first of them on.

    Nothing is ever committed behind the last id of one direction, as it may be behind the last of both: the two
    directions do not wait for each other.
    """
    own = _ids(ME, OTHER, size, _rising, Message.id > sent)
    others = _ids(OTHER, ME, size, _rising, Message.id > received)
    found = await _lines(reading, user_id, other_id, union(own, others), _rising, size + 1)
    return Page(found[:size], True, len(found) > size)


async def newest(reading: Reading, user_id: int, other_id: int) -> tuple[int, int]:
    """The ids of the last message that a user received from another, and of the last sent to them; 0 without one.

    A page that is read afterwards contains both.
    """
    received, sent = (await reading.execute(NEWEST, {"me": user_id, "other": other_id})).one()
    return received, sent


async def _lines(reading: Reading, user_id: int, other_id: int, ids: Any, order: Any, most: int) -> Sequence[Any]:
    chosen = ids.subquery()
    statement = LINES.join(chosen, chosen.c.id == Message.id).order_by(order(Message.id)).limit(most)
    return (await reading.execute(statement, {"me": user_id, "other": other_id})).all()


def _ids(sender: Any, recipient: Any, size: int, order: Any, *bounds: Any) -> Any:
    """The ids of one direction that may be on the page: a range of an index."""
    ids = select(Message.id).where(Message.sender_id == sender, Message.recipient_id == recipient, *bounds)
    return select(ids.order_by(order(Message.id)).limit(size + 1).subquery().c.id)


def _rising(column: Any) -> Any:
    return column.asc()


def _falling(column: Any) -> Any:
    return column.desc()


async def unread(reading: Reading, user_id: int, other_id: int) -> tuple[int, int | None]:
    """How many messages are unread by a user from another, counted up to ``COUNTED``, and the id of the first."""
    both = {"me": user_id, "other": other_id}
    first = (await reading.execute(FIRST_UNREAD, both)).scalar_one_or_none()
    return (await reading.execute(UNREAD_COUNT, both)).scalar_one(), first


async def of_user(
    reading: Reading, user_id: int, size: int, before: int | None = None, after: int | None = None
) -> Page[Any]:
    """Up to ``size`` conversations of a user, newest first: each with its last message, whose id is its key.

    The work grows with the number of the user's conversations, not with that of messages: a few searches in an index
    for each conversation.
    """
    falling = after is None
    last_id = LAST.c.last_id
    some = select(LAST.c.other_id, last_id).order_by(last_id.desc() if falling else last_id.asc()).limit(size + 1)
    if before is not None:
        some = some.where(last_id < before)
    if after is not None:
        some = some.where(last_id > after)
    chosen = some.subquery()
    statement = (
        select(
            Message.id,
            User.username,
            Message.body,
            func.coalesce(Message.created, Message.timestamp).label("created"),
            (Message.sender_id == ME).label("own"),
            _unread_of(chosen.c.other_id).label("unread"),
        )
        .join(chosen, chosen.c.last_id == Message.id)
        .join(User, User.id == chosen.c.other_id)
        .order_by(Message.id.desc() if falling else Message.id.asc())
    )
    found = (await reading.execute(statement, {"me": user_id})).all()
    rows, more = found[:size], len(found) > size
    return Page(rows, before is not None, more) if falling else Page(rows[::-1], more, True)


def mark_read(tx: Transaction, user_id: int, other_id: int, first: int, last: int) -> Moved | None:
    """Mark what a user received from another, with the clock readings ``first`` to ``last``, as read.

    In a locked mailbox; None if all of it was. The mark moves up to the oldest message that is still unread.
    """
    both = {"me": user_id, "other": other_id}
    shown = update(Message).where(UNREAD, Message.timestamp.between(first, last)).values(read=True)
    marked = tx.execute(shown.execution_options(synchronize_session=False), both).rowcount
    if not marked:
        return None
    oldest = tx.execute(OLDEST_UNREAD, {"me": user_id}).scalar_one_or_none()
    clock, _ = tx.execute(CLOCK_AND_MARK, {"me": user_id}).one()
    return Moved(-marked, clock if oldest is None else oldest - 1)


def set_aside(tx: Transaction, user_id: int, other_id: int, since: int) -> int | None:
    """Mark some messages singly that only the mailbox's mark says are read: those after ``since`` of other users.

    In a locked mailbox. Nothing that a user sees changes. Return the clock reading to continue after, or None at the
    end: then the mark can be moved back to ``since`` for the messages of one user.
    """
    values = {"me": user_id, "other": other_id, "since": since}
    some = tx.execute(ONLY_MARKED, values).all()
    if some:
        ids = [each.id for each in some]
        tx.execute(update(Message).where(Message.id.in_(ids)).values(read=True))
    return some[-1].timestamp if len(some) == SET_ASIDE_AT_ONCE else None


def mark_unread(tx: Transaction, user_id: int, other_id: int, first: int) -> Moved | None:
    """Mark what a user received from another, from the clock reading ``first`` on, as unread.

    In a locked mailbox, after ``set_aside``; None if all of it was.
    """
    both = {"me": user_id, "other": other_id}
    _, mark = tx.execute(CLOCK_AND_MARK, both).one()
    from_first = and_(RECEIVED, Message.timestamp >= first)
    was_read = or_(Message.read, Message.timestamp <= mark)
    count = tx.execute(select(func.count()).select_from(Message).where(from_first, was_read), both).scalar_one()
    if not count or user_id == other_id:
        return None
    again = update(Message).where(from_first, Message.read).values(read=False)
    tx.execute(again.execution_options(synchronize_session=False), both)
    return Moved(count, min(mark, first - 1))


def _others(mine: InstrumentedAttribute[int], others: InstrumentedAttribute[int], name: str) -> CTE:
    """The distinct values of a column of an index after another one: one search for each, not one for each message."""
    found = select(func.min(others).label("other_id")).where(mine == ME).cte(name, recursive=True)
    following = select(func.min(others)).where(mine == ME, others > found.c.other_id).scalar_subquery()
    return found.union_all(select(following).where(found.c.other_id.is_not(None)))


def _last_between(sender: Any, recipient: Any) -> ColumnElement[int]:
    message = aliased(Message)
    newest = select(func.max(message.id)).where(message.sender_id == sender, message.recipient_id == recipient)
    return func.coalesce(newest.scalar_subquery(), literal(0, BigInteger))


def _unread_of(other: Any) -> ColumnElement[int]:
    """How many messages are unread from a user, counted up to ``COUNTED``."""
    message = aliased(Message)
    this = and_(message.recipient_id == ME, message.sender_id == other)
    some = select(message.id).where(this, not_(message.read), message.timestamp > MARK).limit(COUNTED)
    if hasattr(other, "table"):
        some = some.correlate(other.table)
    return select(func.count()).select_from(some.subquery()).scalar_subquery()


_received = _others(Message.recipient_id, Message.sender_id, "received")
_sent = _others(Message.sender_id, Message.recipient_id, "sent")
_partners = union(select(_received.c.other_id), select(_sent.c.other_id)).subquery()
LAST = (
    select(
        _partners.c.other_id,
        Later(_last_between(ME, _partners.c.other_id), _last_between(_partners.c.other_id, ME)).label("last_id"),
    )
    .where(_partners.c.other_id.is_not(None))
    .subquery()
)
LINES = select(
    Message.id,
    Message.sender_id,
    Message.body,
    Message.timestamp,
    func.coalesce(Message.created, Message.timestamp).label("created"),
    UNREAD.label("unread"),
)
NEWEST = select(_last_between(OTHER, ME), _last_between(ME, OTHER))
FIRST_UNREAD = select(Message.id).where(UNREAD).order_by(Message.timestamp).limit(1)
UNREAD_COUNT = select(_unread_of(OTHER))
OLDEST_UNREAD = (
    select(Message.timestamp)
    .where(Message.recipient_id == ME, Message.timestamp > MARK, not_(Message.read))
    .order_by(Message.timestamp)
    .limit(1)
)
CLOCK_AND_MARK = select(Mailbox.clock, Mailbox.last_message_read_time).where(Mailbox.user_id == ME)
ONLY_MARKED = (
    select(Message.id, Message.timestamp)
    .where(Message.recipient_id == ME, Message.sender_id != OTHER, not_(Message.read))
    .where(Message.timestamp > bindparam("since", type_=BigInteger), Message.timestamp <= MARK)
    .order_by(Message.timestamp)
    .limit(SET_ASIDE_AT_ONCE)
)

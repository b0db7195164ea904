"""Webhooks in the database: how far the clients of each user have received, and who POSTs next.

Every function takes ``ahead``, microseconds added to the clock, which tests use to let time pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, case, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert  # rendered for SQLite too

from microblog_rt.models import Mailbox, Notification, User, Webhook
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.protocol import Notification as Sent
from microblog_rt.storage import Reading, Transaction
from microblog_rt.storage.sql_time import NOW, Later

THE_SITE = 0  # the user id of the row of the site itself
AT_ONCE = 100  # notifications in a POST
LONGEST_PAUSE = 2 * 3600 * MICROSECONDS  # a later time was stored by a clock that has been set back since
FIELDS = ("user_id", "told", "untold_since", "attempts", "first_attempt", "next_attempt")
NOTHING = {"untold_since": 0, "attempts": 0, "first_attempt": 0}


class Claim(NamedTuple):
    """The right to POST for a user until ``leased``; ``notifications`` are those the user was not told, oldest first.

    ``failing``: microseconds since the first of the failed attempts.
    """

    user_id: int
    username: str
    notifications: list[Sent]
    attempts: int
    failing: int
    leased: int


def turn(tx: Transaction, every: int, ahead: int) -> int | None:
    """Take the turn of this interval of ``every`` microseconds: the time at which webhooks were first used.

    None if another process has taken it.
    """
    now = NOW + literal(ahead, BigInteger)
    row = insert(Webhook).values(user_id=THE_SITE, told=now, **NOTHING, next_attempt=now + every)
    row = row.on_conflict_do_update(
        index_elements=["user_id"], set_={"next_attempt": row.excluded.next_attempt}, where=_reached(now, every)
    )
    began: int | None = tx.execute(row.returning(Webhook.told)).scalar_one_or_none()
    return began


async def unnoticed(reading: Reading, began: int, limit: int) -> dict[int, int]:
    """Some users who were not told a notification, with the timestamp of the oldest, which is not stored yet.

    Scans the mailboxes; an index would cost something with every send.
    """
    told = func.coalesce(Webhook.told, began)
    oldest = (
        select(func.min(Notification.timestamp))
        .where(Notification.user_id == Mailbox.user_id, Notification.timestamp > told)
        .correlate(Mailbox, Webhook)
        .scalar_subquery()
    )
    statement = (
        select(Mailbox.user_id, oldest)
        .outerjoin(Webhook, Webhook.user_id == Mailbox.user_id)
        .where(Mailbox.clock > told, func.coalesce(Webhook.untold_since, 0) == 0, oldest.is_not(None))
        .limit(limit)
    )
    return {row[0]: row[1] for row in await reading.execute(statement)}


def notice(tx: Transaction, untold: Mapping[int, int], began: int) -> None:
    """Store what ``unnoticed`` has found."""
    rows = [{"of_user": each, "since": untold[each], "began": began} for each in sorted(untold)]
    tx.execute(NOTICE, rows)


async def due(reading: Reading, after: int, ahead: int, limit: int) -> Sequence[int]:
    """Some users who were not told a notification within ``after`` microseconds."""
    now = NOW + literal(ahead, BigInteger)
    untold = Webhook.untold_since.between(1, now - after)
    statement = select(Webhook.user_id).where(untold, _reached(now)).limit(limit)
    return (await reading.execute(statement)).scalars().all()


def claim(tx: Transaction, user_id: int, after: int, lease: int, ahead: int) -> Claim | None:
    """Claim the next POST for the user; None if another process has, or if there is nothing to POST any more."""
    now = NOW + literal(ahead, BigInteger)
    statement = (
        update(Webhook)
        .where(Webhook.user_id == user_id, Webhook.untold_since.between(1, now - after), _reached(now))
        .values(
            attempts=Webhook.attempts + 1,
            first_attempt=case((Webhook.attempts == 0, now), else_=Webhook.first_attempt),
            next_attempt=now + lease,
        )
        .returning(Webhook.told, Webhook.attempts, Webhook.first_attempt, Webhook.next_attempt)
    )
    row = tx.execute(statement).one_or_none()
    if row is None:
        return None
    found = tx.execute(UNTOLD, {"of_user": user_id, "cursor": row.told}).all()
    if not found:
        settle(tx, user_id, row.next_attempt, 0)
        return None
    notifications = [Sent(each.name, each.payload_json, each.timestamp) for each in found]
    failing = row.next_attempt - lease - row.first_attempt
    return Claim(user_id, found[0].username, notifications, row.attempts, failing, row.next_attempt)


def settle(tx: Transaction, user_id: int, leased: int, told: int) -> None:
    """End a claim: the user has received everything up to ``told``, or the POST was given up."""
    told_to = Later(Webhook.told, literal(told, BigInteger))
    tx.execute(_claimed(user_id, leased).values(**NOTHING, told=told_to, next_attempt=0))


def postpone(tx: Transaction, user_id: int, leased: int, pause: int, ahead: int) -> None:
    """End a claim whose POST has failed; the next one may begin after ``pause`` microseconds."""
    tx.execute(_claimed(user_id, leased).values(next_attempt=NOW + literal(ahead + pause, BigInteger)))


def note_confirmed(tx: Transaction, confirmed: Mapping[int, int]) -> None:
    """Store that these users, by id, have received everything up to a timestamp."""
    tx.execute(NOTE_CONFIRMED, [{"of_user": each, "cursor": confirmed[each]} for each in sorted(confirmed)])


def _claimed(user_id: int, leased: int) -> Any:
    return update(Webhook).where(Webhook.user_id == user_id, Webhook.next_attempt == leased)


def _reached(now: ColumnElement[int], longest: int = LONGEST_PAUSE) -> ColumnElement[bool]:
    return or_(Webhook.next_attempt <= now, Webhook.next_attempt > now + longest)


OF_USER = bindparam("of_user", type_=BigInteger)
CURSOR = bindparam("cursor", type_=BigInteger)
UNTOLD = (
    select(Notification.name, Notification.payload_json, Notification.timestamp, User.username)
    .join(User, User.id == Notification.user_id)
    .where(Notification.user_id == OF_USER, Notification.timestamp > CURSOR)
    .order_by(Notification.timestamp)
    .limit(AT_ONCE)
)
# At most up to the clock.
CONFIRMED = select(
    Mailbox.user_id,
    case((Mailbox.clock < CURSOR, Mailbox.clock), else_=CURSOR),
    *(literal(0, BigInteger) for _ in FIELDS[2:]),
).where(Mailbox.user_id == OF_USER)
_TOLD = insert(Webhook).from_select(FIELDS, CONFIRMED)
NOTE_CONFIRMED = _TOLD.on_conflict_do_update(
    index_elements=["user_id"], set_={"told": _TOLD.excluded.told, **NOTHING}, where=Webhook.told < _TOLD.excluded.told
)
SINCE = bindparam("since", type_=BigInteger)
_UNTOLD = insert(Webhook).values(
    user_id=OF_USER,
    told=bindparam("began", type_=BigInteger),
    untold_since=SINCE,
    attempts=0,
    first_attempt=0,
    next_attempt=0,
)
NOTICE = _UNTOLD.on_conflict_do_update(
    index_elements=["user_id"],
    set_={"untold_since": _UNTOLD.excluded.untold_since},
    where=and_(Webhook.untold_since == 0, Webhook.told < _UNTOLD.excluded.untold_since),
)

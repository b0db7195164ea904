"""Webhooks in the database: how far each user was told, and who POSTs next.

Every function takes ``ahead``, microseconds added to the clock, which tests use to let time pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, case, exists, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert  # rendered for SQLite too

from microblog_rt.models import Mailbox, Notification, User, Webhook
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.protocol import Notification as Sent
from microblog_rt.storage import Reading, Transaction
from microblog_rt.storage.sql_time import NOW, Later

THE_SITE = 0  # the user id of the row of the site itself
AT_ONCE = 100  # notifications in a POST
LONGEST_PAUSE = 2 * 3600 * MICROSECONDS  # a later time was stored by a clock that has been set back since
FIELDS = ("user_id", "told", "attempts", "first_attempt", "next_attempt")


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
    row = insert(Webhook).values(user_id=THE_SITE, told=now, attempts=0, first_attempt=0, next_attempt=now + every)
    row = row.on_conflict_do_update(
        index_elements=["user_id"], set_={"next_attempt": row.excluded.next_attempt}, where=_reached(now, every)
    )
    began: int | None = tx.execute(row.returning(Webhook.told)).scalar_one_or_none()
    return began


async def due(reading: Reading, began: int, after: int, ahead: int, limit: int) -> Sequence[int]:
    """Some users with a notification that is older than ``after`` microseconds, and which they were not told.

    Scans the mailboxes; an index would cost something with every send.
    """
    now = NOW + literal(ahead, BigInteger)
    told = func.coalesce(Webhook.told, began)
    untold = and_(
        Notification.user_id == Mailbox.user_id, Notification.timestamp > told, Notification.timestamp <= now - after
    )
    statement = (
        select(Mailbox.user_id)
        .outerjoin(Webhook, Webhook.user_id == Mailbox.user_id)
        .where(Mailbox.clock > told, or_(Webhook.user_id.is_(None), _reached(now)), exists().where(untold))
        .limit(limit)
    )
    return (await reading.execute(statement)).scalars().all()


def claim(tx: Transaction, user_id: int, began: int, after: int, lease: int, ahead: int) -> Claim | None:
    """Claim the next POST for the user; None if another process has, or if there is nothing to POST any more."""
    now = NOW + literal(ahead, BigInteger)
    row = insert(Webhook).values(user_id=user_id, told=began, attempts=1, first_attempt=now, next_attempt=now + lease)
    row = row.on_conflict_do_update(
        index_elements=["user_id"],
        set_={
            "attempts": Webhook.attempts + 1,
            "first_attempt": case((Webhook.attempts == 0, row.excluded.first_attempt), else_=Webhook.first_attempt),
            "next_attempt": row.excluded.next_attempt,
        },
        where=_reached(now),
    )
    fields = tx.execute(row.returning(*(getattr(Webhook, each) for each in FIELDS))).one_or_none()
    if fields is None:
        return None
    found = tx.execute(UNTOLD, {"of_user": user_id, "cursor": fields.told}).all()
    claimed_at = fields.next_attempt - lease
    if not found or found[0].timestamp > claimed_at - after:
        settle(tx, user_id, fields.next_attempt, 0)
        return None
    notifications = [Sent(each.name, each.payload_json, each.timestamp) for each in found]
    failing = claimed_at - fields.first_attempt
    return Claim(user_id, found[0].username, notifications, fields.attempts, failing, fields.next_attempt)


def settle(tx: Transaction, user_id: int, leased: int, told: int) -> None:
    """End a claim: the user was told everything up to ``told``, or the POST was given up."""
    values = {"told": Later(Webhook.told, literal(told, BigInteger)), "attempts": 0, "first_attempt": 0}
    tx.execute(_claimed(user_id, leased).values(**values, next_attempt=0))


def postpone(tx: Transaction, user_id: int, leased: int, pause: int, ahead: int) -> None:
    """End a claim whose POST has failed; the next one may begin after ``pause`` microseconds."""
    tx.execute(_claimed(user_id, leased).values(next_attempt=NOW + literal(ahead + pause, BigInteger)))


def note_told(tx: Transaction, told: Mapping[int, int]) -> None:
    """Store that these users, by id, were told everything up to a timestamp."""
    tx.execute(NOTE_TOLD, [{"of_user": each, "cursor": told[each]} for each in sorted(told)])


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
# Up to the newest notification only: a client may have a cursor that is ahead of the clock.
NEWEST_TOLD = (
    select(
        Notification.user_id,
        func.max(Notification.timestamp),
        literal(0, BigInteger),
        literal(0, BigInteger),
        literal(0, BigInteger),
    )
    .where(Notification.user_id == OF_USER, Notification.timestamp <= CURSOR)
    .group_by(Notification.user_id)
)
_ROW = insert(Webhook).from_select(FIELDS, NEWEST_TOLD)
NOTE_TOLD = _ROW.on_conflict_do_update(
    index_elements=["user_id"],
    set_={"told": _ROW.excluded.told, "attempts": 0, "first_attempt": 0},
    where=Webhook.told < _ROW.excluded.told,
)

"""What users are told: replacing a notification, and the one statement that answers a read.

That one statement sees the mailbox clock, the rows newer than the cursor, and whether the session lives and
until when, all in one snapshot. (Rows first and clock second would skip a row; a session looked at apart from
the rows would leak after a logout.)
"""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import and_, bindparam, or_, select, type_coerce
from sqlalchemy.sql import Select
from sqlalchemy.types import BigInteger

from microblog_rt import models
from microblog_rt.models import Mailbox, Session
from microblog_rt.protocol import Notification
from microblog_rt.storage import Storage, Transaction, sql_time
from microblog_rt.storage.sql_time import NOW
from microblog_rt.storage.upsert import insert


class Page(NamedTuple):
    """What is newer than a cursor, in order; the clock it was read at; when the session was used and ends.

    The latter two by the clock of this machine.
    """

    notifications: list[Notification]
    clock: int
    last_used: int
    expires: int


# Built once: to build a statement costs more than to run it.
ROW = insert(models.Notification).values(
    {column.name: bindparam(column.name) for column in models.Notification.__table__.columns}
)
REPLACE = ROW.on_conflict_do_update(
    index_elements=["user_id", "name"],
    set_={"timestamp": ROW.excluded.timestamp, "payload_json": ROW.excluded.payload_json},
)


async def replace(tx: Transaction, user_id: int, notification: Notification) -> None:
    """Keep ``notification`` as the one row of that user and name."""
    row = {"name": notification.name, "timestamp": notification.timestamp, "payload_json": notification.payload_json}
    await tx.execute(REPLACE, {"user_id": user_id, **row})


async def since(storage: Storage, token_hash: str, user_id: int, cursor: int, names: Collection[str]) -> Page | None:
    """What that session's user is to be told after ``cursor`` (a cursor ahead of the clock: everything).

    ``names``: only these, if any. None where the session has ended, or is another user's.
    """
    bound = {"token_hash": token_hash, "user_id": user_id, "cursor": cursor}
    statement = ALL
    if names:
        statement, bound["names"] = NAMED, list(names)
    async with storage.statement() as connection:
        rows = (await connection.execute(statement, bound)).all()
    if not rows:
        return None
    notifications = [Notification(row.name, row.payload_json, row.timestamp) for row in rows if row.name is not None]
    here = sql_time.now()
    return Page(notifications, rows[0].clock, here - rows[0].unused, here + rows[0].left)


def _newer_than_cursor(named: bool) -> Select[int, int, int, str, str, int]:
    timestamp = type_coerce(models.Notification.timestamp, BigInteger)
    cursor = bindparam("cursor", type_=BigInteger)
    newer = and_(models.Notification.user_id == Mailbox.user_id, or_(timestamp > cursor, cursor > Mailbox.clock))
    if named:
        newer = and_(newer, models.Notification.name.in_(bindparam("names", expanding=True)))
    return (
        select(
            Mailbox.clock,
            (NOW - type_coerce(Session.last_used, BigInteger)).label("unused"),
            (type_coerce(Session.expires, BigInteger) - NOW).label("left"),
            models.Notification.name,
            models.Notification.payload_json,
            timestamp.label("timestamp"),
        )
        .select_from(Session)
        .join(Mailbox, Mailbox.user_id == Session.user_id)
        .outerjoin(models.Notification, newer)
        .where(
            Session.token_hash == bindparam("token_hash"),
            Session.user_id == bindparam("user_id"),
            Session.expires > NOW,
        )
        .order_by(timestamp)
    )


ALL = _newer_than_cursor(named=False)
NAMED = _newer_than_cursor(named=True)


async def standing(tx: Transaction, user_id: int, name: str) -> tuple[int, int, int | None]:
    """The unread count, the clock, and when ``name`` was last told (None: never), of one moment."""
    timestamp = type_coerce(models.Notification.timestamp, BigInteger)
    mine = and_(models.Notification.user_id == Mailbox.user_id, models.Notification.name == name)
    statement = (
        select(Mailbox.unread_message_count, Mailbox.clock, timestamp)
        .outerjoin(models.Notification, mine)
        .where(Mailbox.user_id == user_id)
    )
    count, clock, told = (await tx.execute(statement)).one()
    return count, clock, told

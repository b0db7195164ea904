"""Notifications in the database, and the one statement that answers a read.

That statement sees the mailbox clock, the rows newer than the cursor and the credential in one snapshot. Two statements
could skip a row (rows first, clock second) or leak one after a sign-out (session first, rows second). A credential is a
session or an access token; a token without the scope finds no rows. Of a token that another site has signed (JWT) only
its user is stored, and the time of the last revocation, which the same statement returns.
"""

from collections.abc import Collection, Sequence
from enum import Enum
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, String, and_, bindparam, func, literal, not_, or_, select, true, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import insert  # rendered for SQLite too
from sqlalchemy.types import BigInteger

from microblog_rt import models
from microblog_rt.models import READ_NOTIFICATIONS, AccessToken, Mailbox, Session, User
from microblog_rt.protocol import MICROSECONDS, Notification
from microblog_rt.storage import Storage, Transaction, sql_time
from microblog_rt.storage.counters import Counter
from microblog_rt.storage.mailboxes import padded
from microblog_rt.storage.prepared import Prepared
from microblog_rt.storage.sql_time import NOW

FOREVER = 3650 * 86_400 * MICROSECONDS


class Page(NamedTuple):
    """Notifications newer than a cursor, oldest first; the mailbox clock; when the credential expires.

    The last is in microseconds of this machine's clock. ``allowed``: whether the credential may read notifications.
    ``jwts_after``: signed tokens issued up to then are revoked.
    """

    notifications: list[Notification]
    clock: int
    expires: int
    allowed: bool = True
    jwts_after: int = 0


class Kind(Enum):
    """The kinds of credentials."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105
    JWT = "jwt"


class Credential(NamedTuple):
    """The columns and conditions of a kind of credential; ``left`` is how long it is valid, in microseconds.

    ``key`` is what it is found by.
    """

    table: Any
    key: Any
    user_id: Any
    left: ColumnElement[int]
    live: ColumnElement[bool]
    allowed: ColumnElement[bool]
    jwts_after: ColumnElement[int] = literal(0, BigInteger)


CREDENTIALS = {
    Kind.SESSION: Credential(
        Session, Session.token_hash, Session.user_id, Session.expires - NOW, Session.expires > NOW, true()
    ),
    Kind.TOKEN: Credential(
        AccessToken,
        AccessToken.token_hash,
        AccessToken.user_id,
        func.coalesce(AccessToken.expires - NOW, FOREVER),
        or_(AccessToken.expires.is_(None), AccessToken.expires > NOW),
        AccessToken.scopes.contains(READ_NOTIFICATIONS),
    ),
    Kind.JWT: Credential(
        User,
        User.username,
        User.id,
        literal(FOREVER, BigInteger),  # the token says when it expires, and what it allows
        and_(User.jwts_after.is_not(None), not_(User.disabled)),
        true(),
        cast(ColumnElement[int], User.jwts_after),
    ),
}


# Built once: building a statement costs more than running it.
ROW = insert(models.Notification).values(
    {column.name: bindparam(column.name) for column in models.Notification.__table__.columns}
)
REPLACE = Prepared(
    ROW.on_conflict_do_update(
        index_elements=["user_id", "name"],
        set_={"timestamp": ROW.excluded.timestamp, "payload_json": ROW.excluded.payload_json},
    )
)


def replace(tx: Transaction, user_id: int, notification: Notification) -> None:
    """Store ``notification`` as the one row of that user and name."""
    row = {"name": notification.name, "timestamp": notification.timestamp, "payload_json": notification.payload_json}
    REPLACE.row(tx, {"user_id": user_id, **row})


def replace_each(tx: Transaction, user_ids: Sequence[int], counter: Counter) -> None:
    """Store the counter's value in each of these mailboxes as a notification, stamped with the mailbox clock."""
    value = cast(Any, sql_cast(counter.column, String))
    values = select(Mailbox.user_id, literal(counter.name), Mailbox.clock, value)
    rows = insert(models.Notification).from_select(
        ["user_id", "name", "timestamp", "payload_json"], values.where(Mailbox.user_id.in_(padded(list(user_ids))))
    )
    stored = {"timestamp": rows.excluded.timestamp, "payload_json": rows.excluded.payload_json}
    tx.execute(rows.on_conflict_do_update(index_elements=["user_id", "name"], set_=stored))


def latest(tx: Transaction, user_id: int, name: str) -> Notification | None:
    """The user's notification of that name."""
    columns = select(models.Notification.name, models.Notification.payload_json, models.Notification.timestamp)
    this = and_(models.Notification.user_id == user_id, models.Notification.name == name)
    row = tx.execute(columns.where(this)).one_or_none()
    return None if row is None else Notification(*row)


def names(tx: Transaction, user_id: int) -> Sequence[str]:
    """The names of the user's notifications, oldest first."""
    return tx.execute(NAMES, {"of_user": user_id}).scalars().all()


def stamp(tx: Transaction, user_id: int, name: str, timestamp: int) -> None:
    """Give the user's notification ``name`` another timestamp."""
    tx.execute(STAMP, {"of_user": user_id, "of_name": name, "stamp": timestamp})


def current_count(tx: Transaction, user_id: int, counter: Counter) -> Notification:
    """The counter's value as a notification; stamped with the clock if there has never been one."""
    timestamp = models.Notification.timestamp
    latest = and_(models.Notification.user_id == Mailbox.user_id, models.Notification.name == counter.name)
    statement = (
        select(counter.column, func.coalesce(timestamp, Mailbox.clock))
        .select_from(Mailbox)
        .outerjoin(models.Notification, latest)
        .where(Mailbox.user_id == user_id)
    )
    count, stamp = tx.execute(statement).one()
    return Notification(counter.name, str(count), stamp)


async def since(
    storage: Storage, key: str, user_id: int, cursor: int, names: Collection[str], kind: Kind = Kind.SESSION
) -> Page | None:
    """The notifications of that credential's user newer than ``cursor`` (all, if the cursor is ahead of the clock).

    ``names``: only these, if any. ``key``: the hash of a session's or an access token, the subject of a signed token.
    None if the session or the token has ended or belongs to another user.
    """
    bound = {"key": key, "user_id": user_id, "cursor": cursor}
    statement = ALL[kind]
    if names:
        statement, bound["names"] = NAMED[kind], list(names)
    async with storage.feed_read() as connection:
        rows = (await connection.execute(statement, bound)).all()
    return _page(rows, rows) if rows else None


async def since_each(
    storage: Storage, wanted: Sequence[tuple[str, int, int, Collection[str]]], kind: Kind = Kind.SESSION
) -> list[Page | None]:
    """What ``since`` returns, for each of these keys, user ids, cursors and names, in one query."""
    floor = min(cursor for _, _, cursor, _ in wanted)
    keys = padded([key for key, _, _, _ in wanted])
    rows_of: dict[str, list[Any]] = {}
    async with storage.feed_read() as connection:
        for row in await connection.execute(OF_EACH[kind], {"keys": keys, "cursor": floor}):
            rows_of.setdefault(row.key, []).append(row)
    return [await _page_of(storage, rows_of.get(each[0], []), *each, kind) for each in wanted]


async def _page_of(
    storage: Storage,
    rows: Sequence[Any],
    key: str,
    user_id: int,
    cursor: int,
    names: Collection[str],
    kind: Kind,
) -> Page | None:
    if not rows or rows[0].user_id != user_id:
        return None
    if cursor > rows[0].clock:  # then everything is new, also what is older than the cursors of the others
        return await since(storage, key, user_id, cursor, names, kind)
    wanted = [row for row in rows if row.name is not None and (not names or row.name in names)]
    return _page(rows, [row for row in wanted if row.timestamp > cursor])


def _page(rows: Sequence[Any], newer: Sequence[Any]) -> Page:
    """The page with the rows ``newer``; the first of ``rows`` has the clock and the credential."""
    notifications = [Notification(row.name, row.payload_json, row.timestamp) for row in newer if row.name is not None]
    row = rows[0]
    return Page(notifications, row.clock, sql_time.now() + row.left, bool(row.allowed), row.jwts_after)


def _newer_than_cursor(credential: Credential, *, named: bool) -> Any:
    cursor = bindparam("cursor", type_=BigInteger)
    newer = or_(models.Notification.timestamp > cursor, cursor > Mailbox.clock)
    if named:
        newer = and_(newer, models.Notification.name.in_(bindparam("names", expanding=True)))
    this = and_(credential.key == bindparam("key"), credential.user_id == bindparam("user_id"))
    return _read(credential, newer).where(this)


def _newer_of_each(credential: Credential) -> Any:
    newer = models.Notification.timestamp > bindparam("cursor", type_=BigInteger)
    these = credential.key.in_(bindparam("keys", expanding=True))
    return _read(credential, newer).where(these)


def _read(credential: Credential, newer: ColumnElement[bool]) -> Any:
    return (
        select(
            credential.key.label("key"),
            credential.user_id.label("user_id"),
            credential.jwts_after.label("jwts_after"),
            Mailbox.clock,
            credential.left.label("left"),
            credential.allowed.label("allowed"),
            models.Notification.name,
            models.Notification.payload_json,
            models.Notification.timestamp,
        )
        .select_from(credential.table)
        .join(Mailbox, Mailbox.user_id == credential.user_id)
        .outerjoin(models.Notification, and_(models.Notification.user_id == Mailbox.user_id, newer, credential.allowed))
        .where(credential.live)
        .order_by(models.Notification.timestamp)
    )


NAMES = (
    select(models.Notification.name)
    .where(models.Notification.user_id == bindparam("of_user"))
    .order_by(models.Notification.timestamp)
)
STAMP = (
    update(models.Notification)
    .where(models.Notification.user_id == bindparam("of_user"), models.Notification.name == bindparam("of_name"))
    .values(timestamp=bindparam("stamp", type_=BigInteger))
)
ALL = {kind: _newer_than_cursor(each, named=False) for kind, each in CREDENTIALS.items()}
NAMED = {kind: _newer_than_cursor(each, named=True) for kind, each in CREDENTIALS.items()}
OF_EACH = {kind: _newer_of_each(each) for kind, each in CREDENTIALS.items()}

"""Users and sessions in the database."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    String,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    not_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert  # rendered for SQLite too

from microblog_rt import names
from microblog_rt.errors import Invalid
from microblog_rt.models import Base, Mailbox, Session, User
from microblog_rt.storage import Reading, Storage, Transaction, postgres, sql_time
from microblog_rt.storage.counters import COUNTERS, UNREAD_POSTS
from microblog_rt.storage.pages import Page, page
from microblog_rt.storage.prepared import Prepared
from microblog_rt.storage.sql_time import NOW

M = TypeVar("M", bound=Base)

SESSION_NAME_LENGTH = 16
AT_ONCE = 5_000  # rows to delete in one transaction, during which other writers wait on SQLite
COUNTER_COLUMNS = {each.key for counter in COUNTERS for each in (counter.column, counter.mark)}


class Visit:
    """A live session with its user, and the counters and the cursor that a page starts from, in one snapshot.

    ``counters`` by notification name; ``last_used`` by the clock of this machine. ``user`` and ``session`` are created
    when they are needed: most requests need only the id and the name, and the objects cost more than the query.
    """

    def __init__(self, row: Sequence[Any]) -> None:
        self._row = row
        self.user_id: int = row[0]
        self.username: str = row[1]
        self.cursor, unused, *counts = row[len(USER) + len(SESSION) :]
        self.last_used: int = sql_time.now() - unused
        self.counters: dict[str, int] = {each.name: count for each, count in zip(COUNTERS, counts, strict=True)}

    @cached_property
    def user(self) -> User:
        return _instance(User, USER, self._row)

    @cached_property
    def session(self) -> Session:
        return _instance(Session, SESSION, self._row[len(USER) :])


class Credentials(NamedTuple):
    """What decides whether a user may sign in, and the address for a new password."""

    password_hash: str
    disabled: bool
    email: str | None


# Built once: building a statement costs more than running it.
ALIKE = select(User.username).where(
    User.username_skeleton == bindparam("skeleton", type_=String), User.id != bindparam("user_id")
)
USER, SESSION = [list(cast(Table, model.__table__).columns) for model in (User, Session)]
BY_NAME = Prepared(select(*USER).where(User.username_key == bindparam("key")))
VISIT = Prepared(
    select(
        *USER,
        *SESSION,
        Mailbox.clock,
        NOW - Session.last_used,
        *[each.column for each in COUNTERS],
    )
    .join(Session, Session.user_id == User.id)
    .join(Mailbox, Mailbox.user_id == User.id)
    .where(
        Session.token_hash == bindparam("token_hash"), Session.user_id == bindparam("of_user"), Session.expires > NOW
    )
)


def add(tx: Transaction, user: User) -> None:
    """Insert a user and an empty mailbox, and set the user's id.

    Raises Invalid for a name that is taken, or that looks like one that is; the transaction must be rolled back.
    """
    if tx.dialect.name == postgres.NAME and user.username_skeleton:
        postgres.lock(tx, f"skeleton:{user.username_skeleton}")  # SQLite's write lock covers the whole database
    columns = ("username", "username_key", "username_skeleton", "email", "password_hash", "jwts_after")
    row = insert(User).values({column: getattr(user, column) for column in columns} | {"member_since": NOW})
    row = row.on_conflict_do_nothing(index_elements=["username_key"])
    added = tx.execute(row.returning(User.id, User.member_since)).one_or_none()
    if added is None:
        raise Invalid("username", "username_taken")
    user.id, user.member_since = added
    alike = tx.execute(ALIKE, {"skeleton": user.username_skeleton, "user_id": user.id}).scalars()
    if any(names.look_alike(user.username, each) for each in alike):
        raise Invalid("username", "username_similar")
    start: dict[str, Any] = {"clock": NOW, "clock_before": 0, **dict.fromkeys(COUNTER_COLUMNS, 0)}
    start[UNREAD_POSTS.mark.key] = UNREAD_POSTS.end  # what was posted before is not new to the user
    tx.execute(insert(Mailbox).values(user_id=user.id, **start))


async def by_name(storage: Storage, username: str) -> User | None:
    """The user of that name, in any case and any Unicode normalization form."""
    row = await storage.row(BY_NAME, {"key": names.key(username)})
    return None if row is None else _instance(User, USER, row)


async def ids(reading: Reading, keys: Collection[str]) -> dict[str, int]:
    """The ids of the users whose names have these keys, by key."""
    found = await reading.execute(select(User.username_key, User.id).where(User.username_key.in_(keys)))
    return dict(found.all())


def disabled(tx: Transaction, user_ids: Collection[int]) -> dict[int, bool]:
    """Whether the accounts of these users are disabled, by id; without those that do not exist."""
    return dict(tx.execute(select(User.id, User.disabled).where(User.id.in_(user_ids))).all())


async def people(reading: Reading, size: int, before: str | None, after: str | None) -> Page[User]:
    """Up to ``size`` users whose accounts are not disabled, by name: those next to ``before`` or ``after``, if any."""
    return await page(reading, select(User).where(not_(User.disabled)), User.username_key, size, before, after)


async def everyone(reading: Reading, size: int, after: str | None) -> Page[User]:
    """Up to ``size`` users by name: those after the key ``after``, if any."""
    return await page(reading, select(User), User.username_key, size, after=after)


async def visit(storage: Storage, user_id: int, token_hash: str) -> Visit | None:
    """The live session of that user and token, in one statement; None if it has ended or is another user's."""
    row = await storage.row(VISIT, {"of_user": user_id, "token_hash": token_hash})
    return None if row is None else Visit(row)


def _instance(model: type[M], columns: Sequence[Column[Any]], row: Sequence[Any]) -> M:
    """An object from the beginning of a row; SQLite's driver returns truth values as numbers."""
    values = zip(columns, row, strict=False)
    return model(**{each.key: bool(value) if isinstance(each.type, Boolean) else value for each, value in values})


def note_use(tx: Transaction, token_hash: str, idle: dict[bool, int], lifetime: int) -> None:
    """Store that a live session was used: it lasts ``idle[remembered]`` microseconds from now, within ``lifetime``."""
    latest = Session.created + lifetime
    wanted = NOW + case((Session.remembered, literal(idle[True], BigInteger)), else_=literal(idle[False], BigInteger))
    statement = (
        update(Session)
        .where(Session.token_hash == token_hash, Session.expires > NOW)
        .values(last_used=NOW, expires=case((wanted < latest, wanted), else_=latest))
    )
    tx.execute(statement)


async def sessions(
    reading: Reading, user_id: int, except_hash: str | None, size: int, before: int | None, after: int | None
) -> Page[Session]:
    """Up to ``size`` live sessions of a user, newest first: begun ``before`` or ``after`` a time, if given.

    Without the one whose token has the hash ``except_hash``.
    """
    statement = select(Session).where(Session.user_id == user_id, Session.expires > NOW)
    if except_hash is not None:
        statement = statement.where(Session.token_hash != except_hash)
    return await page(reading, statement, Session.created, size, after, before, descending=True)


def add_session(tx: Transaction, user_id: int, token_hash: str, remembered: bool, lasts: int, device: str = "") -> None:
    """Insert a session that starts now and expires after ``lasts`` microseconds without use."""
    row = {"token_hash": token_hash, "user_id": user_id, "remembered": remembered, "device": device}
    tx.execute(insert(Session).values(created=NOW, last_used=NOW, expires=NOW + lasts, **row))


def credentials(tx: Transaction, user_id: int) -> Credentials:
    """A user's credentials, locked until the end of the transaction."""
    statement = select(User.password_hash, User.disabled, User.email).where(User.id == user_id).with_for_update()
    return Credentials(*tx.execute(statement).one())


def set_password(tx: Transaction, user_id: int, password_hash: str) -> None:
    """Replace a user's password hash."""
    tx.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


def replace_hash(user_id: int, old: str, new: str, tx: Transaction) -> bool:
    """Replace a user's password hash if it is still ``old``; whether it was."""
    mine = and_(User.id == user_id, User.password_hash == old)
    return tx.execute(update(User).where(mine).values(password_hash=new)).rowcount == 1


def set_profile(tx: Transaction, user_id: int, **said: str | None) -> None:
    """Replace what a user says on the profile: ``display_name``, ``about_me``."""
    tx.execute(update(User).where(User.id == user_id).values(**said))


def set_email(tx: Transaction, user_id: int, email: str | None) -> None:
    """Replace a user's e-mail address."""
    tx.execute(update(User).where(User.id == user_id).values(email=email))


def set_disabled(tx: Transaction, user_id: int, disabled: bool) -> None:
    """Disable or enable a user."""
    tx.execute(update(User).where(User.id == user_id).values(disabled=disabled))


def end_session(tx: Transaction, token_hash: str) -> None:
    """Delete one session."""
    tx.execute(delete(Session).where(Session.token_hash == token_hash))


async def session_named(reading: Reading, user_id: int, name: str) -> Session | None:
    """The live session of a user whose token hash begins with ``name``."""
    return (await reading.scalars(select(Session).where(_named(user_id, name), Session.expires > NOW))).first()


def end_session_named(tx: Transaction, user_id: int, name: str) -> None:
    """Delete the session of a user whose token hash begins with ``name``."""
    tx.execute(delete(Session).where(_named(user_id, name)))


def _named(user_id: int, name: str) -> ColumnElement[bool]:
    return and_(Session.user_id == user_id, func.substr(Session.token_hash, 1, SESSION_NAME_LENGTH) == name)


def end_sessions(tx: Transaction, user_id: int) -> Sequence[str]:
    """Delete every session of a user and return their token hashes."""
    ended = delete(Session).where(Session.user_id == user_id).returning(Session.token_hash)
    return tx.execute(ended).scalars().all()


def forget_expired(tx: Transaction, user_id: int | None = None) -> bool:
    """Delete some expired sessions, of one user or of all; whether there may be more."""
    some = select(Session.token_hash).where(Session.expires <= NOW).limit(AT_ONCE)
    if user_id is not None:
        some = some.where(Session.user_id == user_id)
    return tx.execute(delete(Session).where(Session.token_hash.in_(some))).rowcount == AT_ONCE

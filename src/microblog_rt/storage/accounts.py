"""Users and sessions in the database. Not here: passwords, tokens, rules (``accounts`` a level up)."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, bindparam, case, delete, func, literal, select, type_coerce, update

from microblog_rt.errors import N_, Invalid
from microblog_rt.models import Mailbox, Session, User
from microblog_rt.storage import Reading, Transaction, sql_time
from microblog_rt.storage.sql_time import NOW
from microblog_rt.storage.upsert import insert

NAME_TAKEN = N_("This name is taken. Please choose another.")
SESSION_NAME_LENGTH = 16
AT_ONCE = 5_000  # rows to forget; for so long other writers wait on SQLite


class Visit(NamedTuple):
    """Who a session belongs to, and the count and the cursor a page starts from, all of one moment.

    ``last_used`` by the clock of this machine.
    """

    user: User
    session: Session
    unread_message_count: int
    cursor: int
    last_used: int


class Credentials(NamedTuple):
    """What decides whether a user may sign in."""

    password_hash: str
    disabled: bool


# Every page asks these two. Built once: to build a statement costs more than to run it.
BY_NAME = select(User).where(User.username_key == bindparam("key"))
VISIT = (
    select(User, Session, Mailbox.unread_message_count, Mailbox.clock, NOW - type_coerce(Session.last_used, BigInteger))
    .join(Session, Session.user_id == User.id)
    .join(Mailbox, Mailbox.user_id == User.id)
    .where(Session.token_hash == bindparam("token_hash"), Session.expires > NOW)
)


async def add(tx: Transaction, user: User) -> None:
    """Insert a user, who is given an id, with a mailbox that starts now; raises Invalid for a taken name."""
    columns = ("username", "username_key", "email", "password_hash")
    row = insert(User).values({column: getattr(user, column) for column in columns} | {"member_since": NOW})
    row = row.on_conflict_do_nothing(index_elements=["username_key"])
    added = (await tx.execute(row.returning(User.id, User.member_since))).one_or_none()
    if added is None:
        raise Invalid("username", NAME_TAKEN)
    user.id, user.member_since = added
    start = {"clock": NOW, "clock_before": 0, "last_message_read_time": 0, "unread_message_count": 0}
    await tx.execute(insert(Mailbox).values(user_id=user.id, **start))


async def by_name(reading: Reading, username: str) -> User | None:
    """The user of that name, whatever its case."""
    return (await reading.execute(BY_NAME, {"key": username.lower()})).scalar_one_or_none()


async def people(reading: Reading, offset: int, count: int) -> Sequence[User]:
    """``count`` users in the order of their names, from the ``offset``-th on."""
    statement = select(User).order_by(User.username_key).offset(offset).limit(count)
    return (await reading.execute(statement)).scalars().all()


async def visit(reading: Reading, token_hash: str) -> Visit | None:
    """The live session of that token with its user, count and cursor, in one statement; None if it has ended."""
    row = (await reading.execute(VISIT, {"token_hash": token_hash})).one_or_none()
    return row and Visit(*row[:-1], sql_time.now() - row[-1])


async def note_use(tx: Transaction, token_hash: str, idle: dict[bool, int], lifetime: int) -> None:
    """Write down that a live session was used: it lasts ``idle[remembered]`` longer, within its ``lifetime``."""
    latest = type_coerce(Session.created, BigInteger) + lifetime
    wanted = NOW + case((Session.remembered, literal(idle[True], BigInteger)), else_=literal(idle[False], BigInteger))
    statement = (
        update(Session)
        .where(Session.token_hash == token_hash, Session.expires > NOW)
        .values(last_used=NOW, expires=case((wanted < latest, wanted), else_=latest))
    )
    await tx.execute(statement)


async def sessions(reading: Reading, user_id: int, token_hash: str, offset: int, count: int) -> Sequence[Session]:
    """``count`` live sessions of a user, from the ``offset``-th on: that of the token, then the latest used first."""
    present = case((Session.token_hash == token_hash, 0), else_=1)
    statement = (
        select(Session)
        .where(Session.user_id == user_id, Session.expires > NOW)
        .order_by(present, Session.last_used.desc(), Session.token_hash)
    )
    return (await reading.execute(statement.offset(offset).limit(count))).scalars().all()


async def add_session(
    tx: Transaction, user_id: int, token_hash: str, remembered: bool, lasts: int, device: str = ""
) -> None:
    """Insert a session that begins now, and ``lasts`` so many microseconds if it is not used."""
    row = {"token_hash": token_hash, "user_id": user_id, "remembered": remembered, "device": device}
    await tx.execute(insert(Session).values(created=NOW, last_used=NOW, expires=NOW + lasts, **row))


async def credentials(tx: Transaction, user_id: int) -> Credentials:
    """A user's, as this transaction sees them; nobody changes them before its end."""
    statement = select(User.password_hash, User.disabled).where(User.id == user_id).with_for_update()
    return Credentials(*(await tx.execute(statement)).one())


async def set_password(tx: Transaction, user_id: int, password_hash: str) -> None:
    """Replace a user's password hash."""
    await tx.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


async def set_disabled(tx: Transaction, user_id: int, disabled: bool) -> None:
    """Say whether a user is kept out."""
    await tx.execute(update(User).where(User.id == user_id).values(disabled=disabled))


async def end_session(tx: Transaction, token_hash: str) -> None:
    """Delete one session."""
    await tx.execute(delete(Session).where(Session.token_hash == token_hash))


async def end_session_named(tx: Transaction, user_id: int, name: str) -> None:
    """Delete the session of a user whose token hash begins with all of ``name``."""
    beginning = func.substr(Session.token_hash, 1, SESSION_NAME_LENGTH)
    await tx.execute(delete(Session).where(Session.user_id == user_id, beginning == name))


async def end_sessions(tx: Transaction, user_id: int) -> Sequence[str]:
    """Delete every session of a user; their token hashes."""
    ended = delete(Session).where(Session.user_id == user_id).returning(Session.token_hash)
    return (await tx.execute(ended)).scalars().all()


async def forget_expired(tx: Transaction, user_id: int | None = None) -> bool:
    """Delete some of the sessions that have run out, of one user or of all; whether there may be more."""
    some = select(Session.token_hash).where(Session.expires <= NOW).limit(AT_ONCE)
    if user_id is not None:
        some = some.where(Session.user_id == user_id)
    return (await tx.execute(delete(Session).where(Session.token_hash.in_(some)))).rowcount == AT_ONCE

"""Users and sessions in the database. Not here: passwords, tokens, rules (``accounts`` a level up)."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, bindparam, case, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from microblog_rt.errors import N_, Invalid
from microblog_rt.models import Mailbox, Session, User
from microblog_rt.storage import Reading, Transaction

NAME_TAKEN = N_("This name is taken. Please choose another.")
SESSION_NAME_LENGTH = 16


class Visit(NamedTuple):
    """Who a session belongs to, and the count and the cursor a page starts from, all of one moment."""

    user: User
    session: Session
    unread_message_count: int
    cursor: int


class Credentials(NamedTuple):
    """What decides whether a user may sign in."""

    password_hash: str
    disabled: bool


# Every page asks these two. Built once: to build a statement costs more than to run it.
BY_NAME = select(User).where(User.username_key == bindparam("key"))
VISIT = (
    select(User, Session, Mailbox.unread_message_count, Mailbox.clock)
    .join(Session, Session.user_id == User.id)
    .join(Mailbox, Mailbox.user_id == User.id)
    .where(
        Session.token_hash == bindparam("token_hash"),
        Session.expires > bindparam("now", type_=BigInteger),
    )
)


async def add(tx: Transaction, user: User, clock: int) -> None:
    """Insert a user, who is given an id, with a mailbox that starts at ``clock``; raises Invalid for a taken name."""
    columns = ("username", "username_key", "email", "password_hash", "member_since")
    row = insert(User).values({column: getattr(user, column) for column in columns})
    row = row.on_conflict_do_nothing(index_elements=["username_key"])
    user_id = (await tx.execute(row.returning(User.id))).scalar_one_or_none()
    if user_id is None:
        raise Invalid("username", NAME_TAKEN)
    user.id = user_id
    start = {"clock": clock, "clock_before": clock, "last_message_read_time": 0, "unread_message_count": 0}
    await tx.execute(insert(Mailbox).values(user_id=user.id, **start))


async def by_name(reading: Reading, username: str) -> User | None:
    """The user of that name, whatever its case."""
    return (await reading.execute(BY_NAME, {"key": username.lower()})).scalar_one_or_none()


async def people(reading: Reading, offset: int, count: int) -> Sequence[User]:
    """``count`` users in the order of their names, from the ``offset``-th on."""
    statement = select(User).order_by(User.username_key).offset(offset).limit(count)
    return (await reading.execute(statement)).scalars().all()


async def visit(reading: Reading, token_hash: str, now: int) -> Visit | None:
    """The live session of that token with its user, count and cursor, in one statement; None if it has ended."""
    row = (await reading.execute(VISIT, {"token_hash": token_hash, "now": now})).one_or_none()
    return row and Visit(*row)


async def note_use(tx: Transaction, token_hash: str, now: int, idle: dict[bool, int], lifetime: int) -> None:
    """Write down that a live session was used: it lasts ``idle[remembered]`` longer, within its ``lifetime``."""
    latest = Session.created + lifetime
    wanted = now + case((Session.remembered, idle[True]), else_=idle[False])
    statement = (
        update(Session)
        .where(Session.token_hash == token_hash, Session.expires > now)
        .values(last_used=now, expires=case((wanted < latest, wanted), else_=latest))
    )
    await tx.execute(statement)


async def sessions(
    reading: Reading, user_id: int, token_hash: str, now: int, offset: int, count: int
) -> Sequence[Session]:
    """``count`` live sessions of a user, from the ``offset``-th on: that of the token, then the latest used first."""
    present = case((Session.token_hash == token_hash, 0), else_=1)
    statement = (
        select(Session)
        .where(Session.user_id == user_id, Session.expires > now)
        .order_by(present, Session.last_used.desc(), Session.token_hash)
    )
    return (await reading.execute(statement.offset(offset).limit(count))).scalars().all()


async def add_session(
    tx: Transaction, user_id: int, token_hash: str, remembered: bool, now: int, expires: int, device: str = ""
) -> None:
    """Insert a session that begins ``now``."""
    row = {"token_hash": token_hash, "user_id": user_id, "remembered": remembered, "expires": expires}
    await tx.execute(insert(Session).values(created=now, last_used=now, device=device, **row))


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


async def forget_expired(tx: Transaction, now: int, user_id: int | None = None) -> None:
    """Delete the sessions that have run out: those of one user, or everybody's."""
    statement = delete(Session).where(Session.expires <= now)
    await tx.execute(statement if user_id is None else statement.where(Session.user_id == user_id))

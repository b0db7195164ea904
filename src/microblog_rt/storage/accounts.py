"""Users and sessions in the database. Not here: passwords, tokens, rules (``accounts.py`` a level up)."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, bindparam, case, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from microblog_rt.errors import N_, Invalid
from microblog_rt.models import Mailbox, Session, User
from microblog_rt.storage import Reading, Transaction


class Visit(NamedTuple):
    """Who a session belongs to, and the count and the cursor a page starts from, all of one moment."""

    user: User
    session: Session
    unread_message_count: int
    cursor: int


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
        raise Invalid("username", N_("This name is taken. Please choose another."))
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


async def add_session(tx: Transaction, user_id: int, token_hash: str, remembered: bool, now: int, expires: int) -> None:
    """Insert a session that begins ``now``."""
    row = {"token_hash": token_hash, "user_id": user_id, "remembered": remembered, "expires": expires}
    await tx.execute(insert(Session).values(created=now, last_used=now, **row))


async def password_hash(tx: Transaction, user_id: int) -> str | None:
    """A user's password hash, as this transaction sees it."""
    return (await tx.execute(select(User.password_hash).where(User.id == user_id))).scalar_one_or_none()


async def set_password(tx: Transaction, user_id: int, password_hash: str) -> None:
    """Replace a user's password hash."""
    await tx.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


async def end_session(tx: Transaction, token_hash: str) -> None:
    """Delete one session."""
    await tx.execute(delete(Session).where(Session.token_hash == token_hash))


async def end_sessions(tx: Transaction, user_id: int) -> None:
    """Delete every session of a user."""
    await tx.execute(delete(Session).where(Session.user_id == user_id))


async def forget_expired(tx: Transaction, user_id: int, now: int) -> None:
    """Delete a user's sessions that have run out."""
    await tx.execute(delete(Session).where(Session.user_id == user_id, Session.expires <= now))

"""Links that can be used once, in the database."""

from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, delete, insert, select

from microblog_rt.models import OneTimeLink, User
from microblog_rt.storage import Reading, Storage, Transaction
from microblog_rt.storage.prepared import Prepared
from microblog_rt.storage.sql_time import NOW

AT_ONCE = 5_000  # rows to delete in one transaction, during which other writers wait on SQLite


class Link(NamedTuple):
    """A live link: its user's id and name, None without a user, and the address it was sent to."""

    user_id: int | None
    username: str | None
    email: str | None


FIND = Prepared(
    select(OneTimeLink.user_id, User.username, OneTimeLink.email)
    .outerjoin(User, User.id == OneTimeLink.user_id)
    .where(
        OneTimeLink.token_hash == bindparam("token_hash"),
        OneTimeLink.kind == bindparam("kind"),
        OneTimeLink.expires > NOW,
    )
)


async def find(storage: Storage, kind: str, token_hash: str) -> Link | None:
    """The live link of that kind and token; None if it was used, has expired or was replaced."""
    row = await storage.row(FIND, {"token_hash": token_hash, "kind": kind})
    return None if row is None else Link(*row)


async def pending_email(reading: Reading, user_id: int) -> str | None:
    """The address that a user is to confirm; None without one."""
    statement = select(OneTimeLink.email).where(_of(user_id, OneTimeLink.EMAIL), OneTimeLink.expires > NOW)
    return (await reading.scalars(statement)).first()


def add(
    tx: Transaction, kind: str, token_hash: str, lasts: int, user_id: int | None = None, email: str | None = None
) -> None:
    """Insert a link that is valid for ``lasts`` microseconds from now."""
    columns = {"token_hash": token_hash, "kind": kind, "user_id": user_id, "email": email}
    tx.execute(insert(OneTimeLink).values(expires=NOW + lasts, **columns))


def take(tx: Transaction, kind: str, token_hash: str) -> bool:
    """Delete the live link of that kind and token; False if there is none, or another transaction was first."""
    live = and_(OneTimeLink.token_hash == token_hash, OneTimeLink.kind == kind, OneTimeLink.expires > NOW)
    return tx.execute(delete(OneTimeLink).where(live)).rowcount == 1


def end_email(tx: Transaction, user_id: int) -> None:
    """Delete a user's links that confirm an address."""
    tx.execute(delete(OneTimeLink).where(_of(user_id, OneTimeLink.EMAIL)))


def end_all(tx: Transaction, user_id: int) -> None:
    """Delete every link of a user."""
    tx.execute(delete(OneTimeLink).where(OneTimeLink.user_id == user_id))


def forget_expired(tx: Transaction) -> bool:
    """Delete some expired links; whether there may be more."""
    some = select(OneTimeLink.token_hash).where(OneTimeLink.expires <= NOW).limit(AT_ONCE)
    return tx.execute(delete(OneTimeLink).where(OneTimeLink.token_hash.in_(some))).rowcount == AT_ONCE


def _of(user_id: int, kind: str) -> ColumnElement[bool]:
    return and_(OneTimeLink.user_id == user_id, OneTimeLink.kind == kind)

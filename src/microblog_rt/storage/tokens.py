"""Access tokens in the database."""

from typing import NamedTuple

from sqlalchemy import and_, bindparam, delete, func, insert, not_, or_, select, update

from microblog_rt.models import AccessToken, User
from microblog_rt.storage import Reading, Storage, Transaction
from microblog_rt.storage.pages import Page, page
from microblog_rt.storage.prepared import Prepared
from microblog_rt.storage.sql_time import NOW

AT_ONCE = 5_000  # rows to delete in one transaction, during which other writers wait on SQLite

LIVE = or_(AccessToken.expires.is_(None), AccessToken.expires > NOW)


class TokenVisit(NamedTuple):
    """A live access token with its user, in one snapshot."""

    user_id: int
    username: str
    token_id: str
    scopes: str


VISIT = Prepared(
    select(AccessToken.user_id, User.username, AccessToken.id, AccessToken.scopes)
    .join(User, User.id == AccessToken.user_id)
    .where(AccessToken.token_hash == bindparam("token_hash"), AccessToken.user_id == bindparam("of_user"), LIVE)
)


async def visit(storage: Storage, user_id: int, token_hash: str) -> TokenVisit | None:
    """The live token of that user and hash; None if it has ended or is another user's."""
    row = await storage.row(VISIT, {"of_user": user_id, "token_hash": token_hash})
    return None if row is None else TokenVisit(*row)


OF_JWT = Prepared(
    select(User.username, User.jwts_after).where(
        User.id == bindparam("of_user"), User.username == bindparam("subject"), not_(User.disabled)
    )
)


async def jwt_is_live(storage: Storage, user_id: int, subject: str, issued: int) -> bool:
    """Whether a token that another site has signed for that user was not revoked; False for another user's id."""
    row = await storage.row(OF_JWT, {"of_user": user_id, "subject": subject})
    return row is not None and row[1] is not None and issued > row[1]


async def of_user(reading: Reading, user_id: int, size: int, before: int | None) -> Page[AccessToken]:
    """Up to ``size`` live tokens of a user, the newest first: those created ``before`` a time, if given."""
    statement = select(AccessToken).where(AccessToken.user_id == user_id, LIVE)
    return await page(reading, statement, AccessToken.created, size, after=before, descending=True)


async def owner(reading: Reading, token_id: str) -> int | None:
    """The user of the token with that id."""
    return (await reading.scalars(select(AccessToken.user_id).where(AccessToken.id == token_id))).one_or_none()


def add(tx: Transaction, lasts: int | None, **columns: object) -> None:
    """Insert a token that is valid for ``lasts`` microseconds from now; None: forever."""
    expires = None if lasts is None else NOW + lasts
    tx.execute(insert(AccessToken).values(created=NOW, expires=expires, **columns))


def count(tx: Transaction, user_id: int) -> int:
    """The number of a user's tokens, expired ones included."""
    counted = select(func.count()).select_from(AccessToken).where(AccessToken.user_id == user_id)
    return tx.execute(counted).scalar_one()


def end(tx: Transaction, user_id: int, token_id: str) -> bool:
    """Delete one token of a user; whether there was one."""
    this = and_(AccessToken.user_id == user_id, AccessToken.id == token_id)
    return tx.execute(delete(AccessToken).where(this)).rowcount == 1


def end_all(tx: Transaction, user_id: int) -> None:
    """Delete every token of a user, and revoke those that another site has signed."""
    tx.execute(delete(AccessToken).where(AccessToken.user_id == user_id))
    of_site = and_(User.id == user_id, User.jwts_after.is_not(None))
    tx.execute(update(User).where(of_site).values(jwts_after=NOW))


def note_use(tx: Transaction, token_hash: str, every: int) -> None:
    """Store that a token is used now, unless that was stored within the last ``every`` microseconds."""
    stale = or_(AccessToken.last_used.is_(None), AccessToken.last_used <= NOW - every)
    tx.execute(update(AccessToken).where(AccessToken.token_hash == token_hash, stale).values(last_used=NOW))


def forget_expired(tx: Transaction, user_id: int | None = None) -> bool:
    """Delete some expired tokens, of one user or of all; whether there may be more."""
    some = select(AccessToken.id).where(AccessToken.expires <= NOW).limit(AT_ONCE)
    if user_id is not None:
        some = some.where(AccessToken.user_id == user_id)
    return tx.execute(delete(AccessToken).where(AccessToken.id.in_(some))).rowcount == AT_ONCE

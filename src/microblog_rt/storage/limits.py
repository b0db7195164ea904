"""Limits, counted in the database: exact over all processes, in a window that slides with each attempt.

Every attempt that is let through is a row until it leaves the window; one more is let through only while fewer
than the limit are there, in one statement of a transaction that has locked the subject. What is refused leaves
nothing behind, so nobody is kept out for longer by trying. Not here: what is limited (``accounts``, ``messages``).
"""

from collections.abc import Iterable
from math import ceil

from sqlalchemy import BigInteger, Integer, String, bindparam, delete, func, insert, select

from microblog_rt import metrics
from microblog_rt.errors import TooMany
from microblog_rt.models import Attempt
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.settings import Limit
from microblog_rt.storage import Transaction, postgres, sql_time
from microblog_rt.storage.sql_time import NOW

REMEMBERED = 10_000
AT_ONCE = 5_000  # rows to forget; for so long other writers wait on SQLite

STANDING = (Attempt.subject == bindparam("subject"), Attempt.expires > NOW)
SO_FAR = select(func.count()).select_from(Attempt).where(*STANDING).scalar_subquery()
ONE_MORE = select(bindparam("subject", type_=String), NOW + bindparam("window", type_=BigInteger))
TAKE = (
    insert(Attempt)
    .from_select(["subject", "expires"], ONE_MORE.where(bindparam("times", type_=Integer) > SO_FAR))
    .returning(Attempt.id)
)
FREE_IN = (
    select(Attempt.expires - NOW).where(*STANDING).order_by(Attempt.expires.desc()).offset(bindparam("others")).limit(1)
)


class Refusals:
    """Until when a subject is over its limit, as far as this process knows: to refuse it again needs no database."""

    def __init__(self) -> None:
        self._until: dict[str, int] = {}

    def check(self, subjects: Iterable[str]) -> None:
        """Raise TooMany where one of ``subjects`` is known to be over its limit still."""
        now = sql_time.now()
        for subject in subjects:
            until = self._until.get(subject, 0)
            if until > now:
                metrics.limit_hit(subject)
                raise _too_many(until - now)
            self._until.pop(subject, None)

    def note(self, subject: str, until: int) -> None:
        if len(self._until) >= REMEMBERED:
            self._until.clear()  # a memory of what the database knows: it may be forgotten
        self._until[subject] = until


async def take(tx: Transaction, subject: str, limit: Limit | None, refusals: Refusals | None = None) -> None:
    """Count one attempt of ``subject`` in a transaction that is left on TooMany, which says when it will do."""
    if limit is None:
        return
    if tx.dialect.name == postgres.NAME:
        await postgres.lock(tx, subject)  # on SQLite the whole database is
    wanted = {"subject": subject, "window": limit.seconds * MICROSECONDS, "times": limit.times}
    if (await tx.execute(TAKE, wanted)).scalar_one_or_none() is not None:
        return
    # Nothing where the one that stood in the way has left its window meanwhile.
    left = (await tx.execute(FREE_IN, {"subject": subject, "others": limit.times - 1})).scalar_one_or_none() or 0
    metrics.limit_hit(subject)
    if refusals is not None:
        refusals.note(subject, sql_time.now() + left)
    raise _too_many(left)


async def forget(tx: Transaction) -> bool:
    """Delete some of what has left its window; whether there may be more."""
    some = select(Attempt.id).where(Attempt.expires <= NOW).limit(AT_ONCE)
    return (await tx.execute(delete(Attempt).where(Attempt.id.in_(some)))).rowcount == AT_ONCE


def _too_many(left: int) -> TooMany:
    return TooMany(max(1, ceil(left / MICROSECONDS)))

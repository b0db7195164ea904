"""Rate limits, counted in the database: exact over all processes, in a sliding window.

Every accepted attempt is a row until it leaves the window. Another one is accepted only while there are fewer than the
limit, in one statement of a transaction that has locked the subject. Refused attempts are not counted, nor are those
that a clock, which has been set back since, dated in the future: no wait is longer than the window. A caller can give
an attempt back.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from time import monotonic

from sqlalchemy import BigInteger, Integer, String, bindparam, delete, func, insert, select

from microblog_rt import metrics
from microblog_rt.errors import TooMany
from microblog_rt.models import Attempt
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.settings import Limit
from microblog_rt.storage import Transaction, postgres
from microblog_rt.storage.prepared import Prepared
from microblog_rt.storage.sql_time import NOW

REMEMBERED = 10_000
AT_ONCE = 5_000  # rows to delete in one transaction, during which other writers wait on SQLite

WINDOW = bindparam("window", type_=BigInteger)
CURRENT = (Attempt.subject == bindparam("subject"), Attempt.expires > NOW, Attempt.expires <= NOW + WINDOW)
SO_FAR = select(func.count()).select_from(Attempt).where(*CURRENT).scalar_subquery()
ONE_MORE = select(bindparam("subject", type_=String), NOW + WINDOW)
TAKE = Prepared(
    insert(Attempt)
    .from_select(["subject", "expires"], ONE_MORE.where(bindparam("times", type_=Integer) > SO_FAR))
    .returning(Attempt.id)
)
FREE_IN = (
    select(Attempt.expires - NOW).where(*CURRENT).order_by(Attempt.expires.desc()).offset(bindparam("others")).limit(1)
)


class OverLimit(TooMany):
    """``subject`` is over its limit for another ``left`` microseconds."""

    def __init__(self, subject: str, left: int) -> None:
        super().__init__(max(1, ceil(left / MICROSECONDS)))
        self.subject = subject
        self.left = left
        self.first = False  # whether this process did not know it yet


class Refusals:
    """Until when subjects are over their limits, as far as this process knows: refused again without the database."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # by the monotonic clock

    def check(self, subjects: Iterable[str]) -> None:
        """Raise OverLimit if one of ``subjects`` is known to be over its limit."""
        now = monotonic()
        for subject in subjects:
            until = self._until.get(subject, now)
            if until > now:
                raise OverLimit(subject, round((until - now) * MICROSECONDS))
            self._until.pop(subject, None)

    def note(self, error: OverLimit, at_most: int | None = None) -> None:
        """Remember a refusal by the database, for ``at_most`` seconds if room can be made earlier."""
        if len(self._until) >= REMEMBERED:
            self._until.clear()  # the database knows them all
        error.first = error.subject not in self._until
        left = error.left if at_most is None else min(error.left, at_most * MICROSECONDS)
        self._until[error.subject] = monotonic() + left / MICROSECONDS


@contextmanager
def reported() -> Iterator[None]:
    """Count a refusal raised in the block, which the writer's thread must not."""
    try:
        yield
    except OverLimit as error:
        metrics.limit_hit(error.subject)
        raise


def take(tx: Transaction, subject: str, limit: Limit | None) -> int | None:
    """Count one attempt of ``subject`` and return its row's id, None without a limit. Raises OverLimit."""
    if limit is None:
        return None
    if tx.dialect.name == postgres.NAME:
        postgres.lock(tx, subject)  # SQLite's write lock covers the whole database
    wanted = {"subject": subject, "window": limit.seconds * MICROSECONDS, "times": limit.times}
    row = TAKE.row(tx, wanted)
    if row is not None:
        row_id: int = row[0]
        return row_id
    # None if the attempt that was in the way has left its window meanwhile.
    left = tx.execute(FREE_IN, {**wanted, "others": limit.times - 1}).scalar_one_or_none() or 0
    raise OverLimit(subject, left)


def give_back(row_ids: Sequence[int], tx: Transaction) -> None:
    """Delete attempts that are not to count."""
    tx.execute(delete(Attempt).where(Attempt.id.in_(row_ids)))


def forget(tx: Transaction) -> bool:
    """Delete some attempts that have left their window; whether there may be more."""
    some = select(Attempt.id).where(Attempt.expires <= NOW).limit(AT_ONCE)
    return tx.execute(delete(Attempt).where(Attempt.id.in_(some))).rowcount == AT_ONCE

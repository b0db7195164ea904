"""Limits on open WebSockets and long polls in this process, by user and by address.

See also: ``storage/limits.py`` for rates, which are counted in the database.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from microblog_rt import metrics
from microblog_rt.errors import TooMany
from microblog_rt.settings import Settings

TRY_AGAIN = 5  # seconds: the interval of plain polls, which are never refused


class Tabs:
    """Counts open tabs; exact, since nothing is awaited between check and increment."""

    def __init__(self, settings: Settings) -> None:
        self._per_user = settings.tabs_per_user
        self._per_address = settings.tabs_per_address
        self._users: Counter[int] = Counter()
        self._addresses: Counter[str] = Counter()

    @contextmanager
    def opened(self, user_id: int, address: str, kind: metrics.Gauge) -> Iterator[None]:
        """Count one tab in the block, also in the gauge ``kind``; raises TooMany."""
        self.open(user_id, address, kind)
        try:
            yield
        finally:
            self.close(user_id, address, kind)

    def open(self, user_id: int, address: str, kind: metrics.Gauge) -> None:
        """Count one tab; ``close`` must follow. Raises TooMany."""
        if _full(self._users[user_id], self._per_user) or (
            address and _full(self._addresses[address], self._per_address)
        ):
            metrics.limit_hit("tabs")
            raise TooMany(TRY_AGAIN, "too_many_tabs")
        kind.count()
        self._users[user_id] += 1
        self._addresses[address] += 1

    def close(self, user_id: int, address: str, kind: metrics.Gauge) -> None:
        """Count one tab less."""
        kind.count(-1)
        _decrement(self._users, user_id)
        _decrement(self._addresses, address)


def _full(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit


def _decrement(counts: Counter[Any], key: Any) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]

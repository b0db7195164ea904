"""Which transport to use: which ones have failed on this network, and for how long to avoid them.

A failure counts only if the server responds by another transport. If the poll fails too, the server is down, and the
failure says nothing about the transport.
"""

import math
from collections.abc import Sequence

from microblog_rt.client.connection import Connection
from microblog_rt.client.events import LONGPOLL, POLL, Reason
from microblog_rt.client.timers import Clock

REMEMBERED = 600_000.0
SHORT_LIFETIME = 10_000.0


class TransportChoice:
    """The transports of ``best_first``, the last of which is the poll, without those that have failed."""

    def __init__(self, clock: Clock, best_first: Sequence[str]) -> None:
        self._clock = clock
        self._best_first = best_first
        self._failed: set[str] = set()
        self._until: float | None = None  # when to try a better transport
        self._short_lifetimes: dict[str, int] = {}  # how many in a row, by transport
        self._failed_at: dict[str, float] = {}  # when each transport last ended without a response
        # A transport whose failure was an outage if it responds before others are tried again.
        self._suspect: str | None = None
        self._server_up_since = -math.inf  # infinity: the server is down

    @property
    def best(self) -> str:
        """The best transport that has not failed. The poll never counts as failed."""
        return next(name for name in self._best_first if name not in self._failed)

    @property
    def left(self) -> float | None:
        """Milliseconds until a better transport is to be tried; None if none has failed."""
        return None if self._until is None else max(0.0, self._until - self._clock.now)

    def responded(self, name: str) -> None:
        """The server has responded by the transport ``name``."""
        self._server_up_since = min(self._server_up_since, self._clock.now)
        if name == self.best and name == self._suspect:
            self.reset()

    def ended(self, connection: Connection, reason: Reason, active: Connection | None) -> bool:
        """Record the end of a connection while ``active`` is open; whether to try another transport at once."""
        name = connection.name
        if reason.status == 429:
            return name != POLL and self._avoid(self._best_first[:-1])
        active_responds = active is not None and active.has_responded
        unanswered = not connection.has_responded and not active_responds
        unavailable = reason.status == 503 and (reason.wait or connection.has_responded or unanswered)
        if name == POLL or unavailable or (name == LONGPOLL and unanswered):
            return self._server_down()
        server_responds = connection.has_responded or self._responds_besides(connection, active)
        if not connection.has_responded:
            self._failed_at[name] = self._clock.now
            if name == LONGPOLL:
                self._suspect = name
        if connection.opened_at < self._server_up_since:
            return False
        short = self._short_lifetimes.get(name, 0) + 1 if connection.lifetime < SHORT_LIFETIME else 0
        self._short_lifetimes[name] = short
        return server_responds and (reason.timed_out or short >= 2) and self._avoid([name])

    def reset(self) -> None:
        """Forget all failures: every transport may be tried again."""
        self._suspect = self._until = None
        self._failed.clear()
        self._short_lifetimes.clear()

    def _responds_besides(self, connection: Connection, active: Connection | None) -> bool:
        if active is None or not active.has_responded or connection.was_suspended:
            return False
        # A poll says nothing about the time until the next one: two failures between two polls may be one outage.
        return active.name != POLL or active.last_response_at > self._failed_at.get(connection.name, -math.inf)

    def _server_down(self) -> bool:
        self._server_up_since = math.inf
        self.reset()
        return False

    def _avoid(self, names: Sequence[str]) -> bool:
        for name in names:
            self._failed.add(name)
            self._short_lifetimes.pop(name, None)
        self._until = self._clock.now + REMEMBERED
        return True

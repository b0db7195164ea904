"""Gives up on a database that has not answered any caller for some time.

A fixed time-out for each caller would refuse those at the end of a long queue that moves. So a caller that waits for a
connection waits for as long as others are answered; one that has a connection must itself be answered, statement by
statement. Time in which this process was itself stopped does not count.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from microblog_rt.timeouts import Timeouts

_current: ContextVar["Waiting | None"] = ContextVar("_current", default=None)


class Waiting:
    """A caller of the database: since when it waits for an answer, and whether it has a connection."""

    __slots__ = ("connected", "limit", "loop", "since")

    def __init__(self, limit: asyncio.Timeout, loop: asyncio.AbstractEventLoop) -> None:
        self.limit = limit
        self.loop = loop
        self.since = loop.time()
        self.connected = False


class SilenceTimeout:
    """The time-out shared by all callers of one database.

    ``connected`` and ``answered`` may be called from another thread, in the caller's context.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._waiting: set[Waiting] = set()
        self._answered = float("-inf")
        self.silent_at = float("-inf")  # when a connection was last given up, by the monotonic clock
        self._next_check: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Raise TimeoutError in the block once the database has been silent for ``Timeouts.database_silence``."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            waiting = Waiting(limit, loop)
            self._waiting.add(waiting)
            previous = _current.set(waiting)
            if self._next_check is None:
                self._schedule_check(loop)
            try:
                yield
            finally:
                _current.reset(previous)
                self._waiting.discard(waiting)

    def connected(self) -> None:
        """Note that the current caller has a connection."""
        waiting = _current.get()
        if waiting is not None:
            waiting.since, waiting.connected = waiting.loop.time(), True

    def answered(self) -> None:
        """Note that the current caller was answered."""
        waiting = _current.get()
        self._answered = (waiting.loop if waiting else asyncio.get_running_loop()).time()
        self.connected()

    def _schedule_check(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self._timeouts.silence_check
        self._next_check = loop.call_at(due, self._check, loop, due)

    def _check(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._next_check = None
        now = loop.time()
        if now - due > self._timeouts.silence_pause:
            # This process was stopped. An answer that arrived as it went on must not count as being in the future.
            self._answered = min(self._answered + now - due, now)
            for each in self._waiting:
                each.since = min(each.since + now - due, now)
        for each in self._waiting:
            last_answer = each.since if each.connected else max(each.since, self._answered)
            if last_answer + self._timeouts.database_silence <= now and each.limit.when() is None:
                each.limit.reschedule(now)
                if each.connected:
                    self.silent_at = time.monotonic()
        if self._waiting:
            self._schedule_check(loop)

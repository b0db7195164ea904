"""How long a database is waited for: hardly two seconds once it is silent.

Whoever waits for a turn waits as long as others are answered: a fixed time for each would refuse those at the end of
a long queue that moves. Whoever has a connection wants to be answered on that one, statement by statement. A process
that stood still itself has not been kept waiting. Not here: what is too long for one row (``postgres.py``), for one
lock (``sqlite.py``).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

SILENCE = 1.2  # seconds
LOOKED_AT_EVERY = 0.05  # seconds
STOOD_STILL = 0.3  # seconds by which a look is late

_mine: ContextVar["Waiting | None"] = ContextVar("_mine", default=None)


class Waiting:
    """One who waits: since when nothing has come, and whether it is for a turn still."""

    __slots__ = ("has_turn", "limit", "since")

    def __init__(self, limit: asyncio.Timeout, since: float) -> None:
        self.limit = limit
        self.since = since
        self.has_turn = False


class SilenceTimeout:
    """Of those who wait for one database."""

    def __init__(self) -> None:
        self._waiting: set[Waiting] = set()
        self._answered = float("-inf")
        self._look: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Raise TimeoutError in the block once the database has been silent for ``SILENCE`` seconds."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            waiting = Waiting(limit, loop.time())
            self._waiting.add(waiting)
            before = _mine.set(waiting)
            if self._look is None:
                self._look_again(loop)
            try:
                yield
            finally:
                _mine.reset(before)
                self._waiting.discard(waiting)

    def has_turn(self) -> None:
        """Whoever runs has a connection now."""
        waiting = _mine.get()
        if waiting is not None:
            waiting.since, waiting.has_turn = asyncio.get_running_loop().time(), True

    def answered(self) -> None:
        """Whoever runs was answered."""
        self._answered = asyncio.get_running_loop().time()
        self.has_turn()

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + LOOKED_AT_EVERY
        self._look = loop.call_at(due, self._look_at_the_clock, loop, due)

    def _look_at_the_clock(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._look = None
        late = loop.time() - due
        if late > STOOD_STILL:
            # What came as it began to go again is not to lie ahead.
            self._answered = min(self._answered + late, loop.time())
            for each in self._waiting:
                each.since = min(each.since + late, loop.time())
        for each in self._waiting:
            heard = each.since if each.has_turn else max(each.since, self._answered)
            if heard + SILENCE <= loop.time() and each.limit.when() is None:
                each.limit.reschedule(loop.time())
        if self._waiting:
            self._look_again(loop)

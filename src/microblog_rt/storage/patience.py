"""How long a database is waited for: as long as it answers somebody, and hardly two seconds once it is silent.

A fixed time for each would refuse those at the end of a long queue that moves. So the clock that matters is when
anybody was last answered. Not here: what is too long for one row (``postgres.py``), for one lock (``sqlite.py``).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SILENCE = 1.2  # seconds
LOOKED_AT_EVERY = 0.05  # seconds


class Patience:
    """Of those who wait for one database."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Timeout, float] = {}
        self._answered = float("-inf")
        self._look: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Raise TimeoutError in the block once the database has answered nobody for ``SILENCE`` seconds."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            self._waiting[limit] = loop.time()
            if self._look is None:
                self._look = loop.call_later(LOOKED_AT_EVERY, self._look_at_the_clock)
            try:
                yield
            finally:
                del self._waiting[limit]

    def answered(self) -> None:
        """Somebody was."""
        self._answered = asyncio.get_running_loop().time()

    def _look_at_the_clock(self) -> None:
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(LOOKED_AT_EVERY, self._look_at_the_clock) if self._waiting else None
        silent_since = loop.time() - SILENCE
        if self._answered > silent_since:
            return
        for limit, began in self._waiting.items():
            if began <= silent_since and limit.when() is None:
                limit.reschedule(loop.time())

"""Whether a process hears itself: a heartbeat that it sends, and when it last came back.

Counted in heartbeats rather than in time: a process that was stopped for a minute is not deaf when it goes on, it has
not listened. Not here: how a heartbeat travels (a file per backend).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

BEAT = 2.0  # seconds from one heartbeat to the next
DEAF = 10.0  # seconds of heartbeats that did not come back, after which the connection is given up


class Heartbeat:
    """The heartbeats of one process on one bus."""

    def __init__(self) -> None:
        self._unheard = 0
        self._heard_at: float | None = None

    async def keep(self, beat: Callable[[], Awaitable[None]]) -> None:
        """For ever: have ``beat``, whose time is bounded, send a heartbeat."""
        loop = asyncio.get_running_loop()
        self._unheard = 0
        while True:
            due = loop.time() + BEAT
            self._unheard += 1
            await beat()
            await asyncio.sleep(max(0, due - loop.time()))

    def heard(self) -> None:
        """One has come back."""
        self._unheard = 0
        self._heard_at = time.monotonic()

    def ago(self) -> float | None:
        """How many seconds it is since one came back; None if none ever has."""
        return None if self._heard_at is None else time.monotonic() - self._heard_at

    def check(self) -> None:
        """Raise TimeoutError where this process has been deaf for too long."""
        if (self._unheard - 1) * BEAT >= DEAF:
            raise TimeoutError(f"no heartbeat has come back for {DEAF:g} seconds")

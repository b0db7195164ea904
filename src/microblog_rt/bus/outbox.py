"""What is to be told to the other processes, kept until it has been: no sender ever waits for a broker.

For each user one wake-up waits at most. A newer one takes the place of an older, and then carries no notice, since
that would not follow on from what a listener knows; nor does one that could not be told at the first attempt, so
that a long wait ends with little to tell. Not here: the telling itself (each backend's ``send``).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from microblog_rt.bus.outage import Outage
from microblog_rt.protocol import Wake

log = logging.getLogger(__name__)

KEPT = 1000  # users; of more than these the longest waiting are forgotten, for the sweep to find
BATCH = 100  # wake-ups told at once
LAST_WORDS = 0.5  # seconds

Send = Callable[[list[Wake]], Awaitable[None]]


class Outbox:
    """``send`` tells some wake-ups in order, and raises OSError where the broker is away; its time is bounded."""

    def __init__(self, send: Send, outage: Outage) -> None:
        self._send = send
        self._outage = outage
        self._waiting: dict[int, Wake] = {}
        self._sending: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, wake: Wake) -> None:
        """See to it that ``wake`` is told."""
        if self._closed:
            return
        self._keep(wake)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all())

    async def close(self) -> None:
        """Go on for a moment where something is still untold, and end."""
        self._closed = True
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=LAST_WORDS)
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _send_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.pop(user_id) for user_id in list(self._waiting)[:BATCH]]
            try:
                await self._send(batch)
            except OSError as error:
                self._keep_first(batch)
                await self._outage.wait_out(error)
            except Exception:
                log.exception("some wake-ups could not be told; the sweep finds what they were about")
            else:
                self._outage.over()

    def _keep_first(self, batch: list[Wake]) -> None:
        newer, self._waiting = self._waiting, {}
        for wake in [*batch, *newer.values()]:
            self._keep(Wake(wake.user_id, wake.clock))

    def _keep(self, wake: Wake) -> None:
        older = self._waiting.pop(wake.user_id, None)
        if older is not None:
            wake = Wake(wake.user_id, max(older.clock, wake.clock))
        self._waiting[wake.user_id] = wake
        if len(self._waiting) > KEPT:
            del self._waiting[next(iter(self._waiting))]

"""What is to be told to the other processes, kept until it has been: no sender ever waits for a broker.

For each user one signal waits at most. A newer one takes the place of an older, and then carries no notification, since
that would not follow on from what a subscriber knows; nor does one that could not be told at the first attempt, so
that a long wait ends with little to tell. Not here: the telling itself (each backend's ``send``).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from microblog_rt.bus.outage import Outage
from microblog_rt.protocol import Signal

log = logging.getLogger(__name__)

KEPT = 1000  # users; of more than these the longest waiting are forgotten, for the sweep to find
BATCH = 100  # signal-ups told at once
LAST_WORDS = 0.5  # seconds

Send = Callable[[list[Signal]], Awaitable[None]]


class PublishQueue:
    """``send`` tells some signal-ups in order, and raises OSError where the broker is away; its time is bounded."""

    def __init__(self, send: Send, outage: Outage) -> None:
        self._send = send
        self._outage = outage
        self._waiting: dict[int, Signal] = {}
        self._sending: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, signal: Signal) -> None:
        """See to it that ``signal`` is told."""
        if self._closed:
            return
        self._keep(signal)
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
                log.exception("some signal-ups could not be told; the sweep finds what they were about")
            else:
                self._outage.over()

    def _keep_first(self, batch: list[Signal]) -> None:
        newer, self._waiting = self._waiting, {}
        for signal in [*batch, *newer.values()]:
            self._keep(Signal(signal.user_id, signal.clock))

    def _keep(self, signal: Signal) -> None:
        older = self._waiting.pop(signal.user_id, None)
        if older is not None:
            signal = Signal(signal.user_id, max(older.clock, signal.clock))
        self._waiting[signal.user_id] = signal
        if len(self._waiting) > KEPT:
            del self._waiting[next(iter(self._waiting))]

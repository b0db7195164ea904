"""Signals that wait to be published, so that no caller waits for a broker."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from microblog_rt.bus.outage import Outage
from microblog_rt.protocol import Signal
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

MAX_USERS = 1000  # beyond these the oldest signals are dropped, for the sweep to find
BATCH = 100  # signals per call of ``send``

Send = Callable[[list[Signal]], Awaitable[None]]


class PublishQueue:
    """Passes signals to ``send`` in order, from a background task.

    ``send`` raises OSError while the broker is unavailable; its duration must be bounded.

    At most one signal per user is queued. A newer signal replaces an older one and drops its notification, which would
    not follow the position of a subscriber. A signal whose first attempt failed also drops its notification, so that
    little is left to send after an outage.
    """

    def __init__(self, send: Send, outage: Outage, timeouts: Timeouts = Timeouts()) -> None:
        self._send = send
        self._outage = outage
        self._timeouts = timeouts
        self._queued: dict[int, Signal] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, signal: Signal) -> None:
        """Queue ``signal``; ignored after ``close``."""
        if self._closed:
            return
        self._add(signal)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_all())

    async def close(self) -> None:
        """Send what is queued, for at most ``Timeouts.publish_on_close``."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self._timeouts.publish_on_close)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send_all(self) -> None:
        while self._queued:
            batch = [self._queued.pop(user_id) for user_id in list(self._queued)[:BATCH]]
            try:
                await self._send(batch)
            except OSError as error:
                self._put_back(batch)
                await self._outage.wait_before_retry(error)
            except Exception:
                log.exception("publishing failed: %d signals dropped; the sweep will find them", len(batch))
            else:
                self._outage.end()

    def _put_back(self, batch: list[Signal]) -> None:
        newer, self._queued = self._queued, {}
        for signal in [*batch, *newer.values()]:
            self._add(Signal(signal.user_id, signal.clock))

    def _add(self, signal: Signal) -> None:
        older = self._queued.pop(signal.user_id, None)
        if older is not None:
            signal = Signal(signal.user_id, max(older.clock, signal.clock))
        self._queued[signal.user_id] = signal
        if len(self._queued) > MAX_USERS:
            del self._queued[next(iter(self._queued))]

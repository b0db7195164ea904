"""A timer wheel: one timer for all deadlines of a process, each a twentieth of a second late at most."""

import asyncio
import logging
from heapq import heappop, heappush
from math import ceil
from typing import Protocol

log = logging.getLogger(__name__)

RESOLUTION = 0.05  # seconds


class Timed(Protocol):
    """Something with deadlines."""

    def due(self, now: float) -> None:
        """A deadline given to ``Wheel.at`` has passed, in loop time; it may not be the current one any more."""


class Wheel:
    """Deadlines in slots of ``RESOLUTION``. They are not cancelled: what is called early does nothing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots: dict[int, list[Timed]] = {}
        self._order: list[int] = []  # a heap of the numbers of the slots
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def at(self, when: float, timed: Timed) -> None:
        """Call ``timed.due`` once ``when`` has passed, in loop time."""
        if self._closed:
            return
        number = ceil(when / RESOLUTION)
        slot = self._slots.get(number)
        if slot is not None:
            slot.append(timed)
            return
        self._slots[number] = [timed]
        heappush(self._order, number)
        if self._order[0] == number:
            self._set_timer()

    def close(self) -> None:
        """Forget every deadline, and those that are still to come."""
        self._closed = True
        self._slots, self._order = {}, []
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._order[0] * RESOLUTION, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._order and self._order[0] * RESOLUTION <= now:
            for timed in self._slots.pop(heappop(self._order)):
                try:
                    timed.due(now)
                except Exception:
                    log.exception("deadline failed")
        if self._order and self._timer is None:
            self._set_timer()

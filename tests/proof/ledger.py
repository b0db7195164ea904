"""What was acknowledged and what was shown, written down as it happens. Not here: what is right (``checks.py``)."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import NamedTuple

ACKNOWLEDGED, ABANDONED = "303", "abandoned"


class Attempt(NamedTuple):
    """One try at sending: to which host, from when to when, how it ended, and what Retry-After said."""

    host: str
    begun: float
    ended: float
    outcome: str
    retry_after: float | None = None


class Send:
    """One message that somebody wants sent; ``cursor``: the newest that its recipient's tabs held before."""

    def __init__(self, sender: int, recipient: int, body: str, cursor: int) -> None:
        self.sender = sender
        self.recipient = recipient
        self.body = body
        self.cursor = cursor
        self.attempts: list[Attempt] = []
        self.acknowledged: float | None = None


class Shown(NamedTuple):
    """One notification as a tab was told it; its timestamp in microseconds."""

    user: int
    name: str
    data: object
    timestamp: int


class Ledger:
    """Of one world, from its beginning; ``now`` tells its time, which is this process's own.

    A second in which the machine gave it no turn is nobody's delay.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.sends: list[Send] = []
        self.acknowledged: defaultdict[int, list[float]] = defaultdict(list)  # by recipient, in order
        self.shown: set[Shown] = set()
        self.closes: Counter[int | None] = Counter()
        self.answers: Counter[str] = Counter()
        self.marked: defaultdict[int, list[tuple[int, bool]]] = defaultdict(list)  # up to; whether acknowledged
        self.wrong: list[str] = []
        self._changed = asyncio.Event()

    def acknowledge(self, send: Send) -> None:
        """``send`` has been acknowledged now."""
        send.acknowledged = self.now()
        self.acknowledged[send.recipient].append(send.acknowledged)
        self.change()

    def change(self) -> None:
        """Something is different that somebody may wait for."""
        self._changed.set()

    async def until(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait for the change that makes it so; whether it came in time."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return true()
        return True

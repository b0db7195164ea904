"""A record of the acknowledged sends and of what the tabs displayed. See also: ``checks.py``."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

ACKNOWLEDGED, ABANDONED = "303", "abandoned"


class Attempt(NamedTuple):
    """One attempt to send: its host, begin, end, outcome, and Retry-After in seconds."""

    host: str
    begun: float
    ended: float
    outcome: str
    retry_after: float | None = None


class Send:
    """One message; ``cursor`` is the newest that its recipient's tabs held before."""

    def __init__(self, sender: int, recipient: int, body: str, cursor: int) -> None:
        self.sender = sender
        self.recipient = recipient
        self.body = body
        self.cursor = cursor
        self.attempts: list[Attempt] = []
        self.acknowledged: float | None = None


class Shown(NamedTuple):
    """One notification as a tab received it; the timestamp is in microseconds."""

    user: int
    name: str
    data: object
    timestamp: int


@dataclass
class Mark:
    """A request to mark what has the timestamps ``first`` to ``last`` as read."""

    first: int
    last: int
    acknowledged: bool = False


class Ledger:
    """The record of one world. ``now`` is a clock that stands still while this process does not run."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.sends: list[Send] = []
        self.acknowledged: defaultdict[int, list[float]] = defaultdict(list)  # by recipient, in order
        self.shown: set[Shown] = set()
        self.closes: Counter[int | None] = Counter()
        self.answers: Counter[str] = Counter()
        self.marks: defaultdict[int, list[Mark]] = defaultdict(list)  # by user
        self.wrong: list[str] = []
        self._changed = asyncio.Event()

    def acknowledge(self, send: Send) -> None:
        """Record that ``send`` was acknowledged now."""
        send.acknowledged = self.now()
        self.acknowledged[send.recipient].append(send.acknowledged)
        self.change()

    def change(self) -> None:
        """Wake what waits in ``until``."""
        self._changed.set()

    async def until(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait at most ``seconds`` for ``true()``; whether it became true."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return true()
        return True

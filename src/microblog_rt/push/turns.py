"""Turns: a few first requests of connections in each turn of the event loop, the others in the next ones.

After a restart thousands of tabs send their handshakes at once. Served together they would hold up every page and send
for a second: an event loop handles all that has arrived before it continues with anything.
"""

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 4  # about a millisecond


class Turns:
    """The requests that begin in this turn of the event loop, and those that wait for a later one, in their order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = AT_ONCE
        self._waiting: deque[Callable[[], None]] = deque()
        self._counting = False

    @property
    def waiting(self) -> int:
        """How many requests wait for a later turn."""
        return len(self._waiting)

    def take(self, resume: Callable[[], None]) -> bool:
        """Whether the request may begin now; if not, ``resume`` is called when it may, and must take the turn then."""
        if not self._counting:
            self._counting = True
            self._loop.call_soon(self._next)
        if self._left:
            self._left -= 1
            return True
        self._waiting.append(resume)
        return False

    def _next(self) -> None:
        self._left = AT_ONCE
        self._counting = bool(self._waiting)
        if self._counting:
            self._loop.call_soon(self._next)
        for _ in range(min(AT_ONCE, len(self._waiting))):
            self._waiting.popleft()()

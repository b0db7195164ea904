"""Which users a process wants word of, and of whom it arrives: the bookkeeping of a channel per user, without I/O.

A user who has left is kept for ``LINGER`` seconds: a long poll leaves and comes back with every answer. Not here:
asking for channels, and what arrives on them (``redis.py``).
"""

import asyncio
import time

LINGER = 5.0  # seconds


class _Subscription:
    """``stands`` once word arrives; ``late`` where somebody reads without having seen that."""

    __slots__ = ("late", "stands")

    def __init__(self) -> None:
        self.stands = asyncio.Event()
        self.late = False


class Subscriptions:
    """``news`` is set while somebody has joined who has not been asked for."""

    def __init__(self) -> None:
        self._wanted: dict[int, _Subscription] = {}
        self._unasked: list[int] = []
        self._left: dict[int, float] = {}  # when, the longest ago first
        self.news = asyncio.Event()

    def subscribe(self, user_id: int) -> None:
        """BusEvent of that user is wanted."""
        self._left.pop(user_id, None)
        if user_id not in self._wanted:
            self._wanted[user_id] = _Subscription()
            self._unasked.append(user_id)
            self.news.set()

    def unsubscribe(self, user_id: int) -> None:
        """It is wanted no longer, unless that user is soon back."""
        self._left[user_id] = time.monotonic()

    async def stand(self, user_id: int, within: float) -> None:
        """Wait until word of that user arrives; who waits in vain is owed a Gap."""
        mine = self._wanted[user_id]
        if mine.stands.is_set():
            return
        try:
            async with asyncio.timeout(within):
                await mine.stands.wait()
        except TimeoutError:
            mine.late = True

    def confirm(self, user_id: int) -> bool:
        """BusEvent of that user arrives from now on; whether somebody waited for that in vain."""
        mine = self._wanted.get(user_id)
        if mine is None:
            return False
        mine.stands.set()
        late, mine.late = mine.late, False
        return late

    def unasked(self) -> list[int]:
        """Who is to be subscribed to; asked for from now on."""
        self.news.clear()
        some, self._unasked = self._unasked, []
        return some

    def gone(self) -> list[int]:
        """Who is to be unsubscribed from; forgotten from now on.

        Only those whose subscription stands: else its confirmation could be taken for that of a later one.
        """
        before = time.monotonic() - LINGER
        gone = [each for each, left in self._left.items() if left <= before and self._wanted[each].stands.is_set()]
        for user_id in gone:
            del self._wanted[user_id], self._left[user_id]
        return gone

    def broken(self) -> None:
        """Nothing arrives any more, and all who are still wanted are to be asked for again."""
        for user_id in self._left:
            del self._wanted[user_id]
        self._left = {}
        for each in self._wanted.values():
            each.stands.clear()
        self._unasked = list(self._wanted)

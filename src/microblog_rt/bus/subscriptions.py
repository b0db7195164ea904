"""The users whose channels a process subscribes to: bookkeeping without I/O.

See also: ``redis.py``, which sends the commands and receives their confirmations.
"""

import asyncio
import time

from microblog_rt.timeouts import Timeouts


class _Subscription:
    """``confirmed`` is set while signals arrive; ``timed_out`` if a reader did not wait for that."""

    __slots__ = ("confirmed", "timed_out")

    def __init__(self) -> None:
        self.confirmed = asyncio.Event()
        self.timed_out = False


class Subscriptions:
    """The subscriptions of one process; ``pending`` is set while ``to_subscribe`` has users to return.

    A user is kept for ``Timeouts.unsubscribe_delay`` after ``unsubscribe``, because a long poll unsubscribes and
    subscribes again with every answer.
    """

    def __init__(self, timeouts: Timeouts = Timeouts()) -> None:
        self._delay = timeouts.unsubscribe_delay
        self._subscriptions: dict[int, _Subscription] = {}
        self._to_subscribe: list[int] = []
        self._unsubscribed_at: dict[int, float] = {}  # oldest first
        self.pending = asyncio.Event()

    def subscribe(self, user_id: int) -> None:
        """Add a user, or keep one that was about to be removed."""
        self._unsubscribed_at.pop(user_id, None)
        if user_id not in self._subscriptions:
            self._subscriptions[user_id] = _Subscription()
            self._to_subscribe.append(user_id)
            self.pending.set()

    def unsubscribe(self, user_id: int) -> None:
        """Remove a user after the delay."""
        self._unsubscribed_at[user_id] = time.monotonic()

    async def wait_confirmed(self, user_id: int, seconds: float) -> None:
        """Wait until that subscription is confirmed; after ``seconds`` record that this reader needs a Gap later."""
        subscription = self._subscriptions.get(user_id)  # None: unsubscribed meanwhile
        if subscription is None or subscription.confirmed.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                await subscription.confirmed.wait()
        except TimeoutError:
            subscription.timed_out = True

    def confirmed(self, user_id: int) -> bool:
        """Record a confirmation; return whether a reader has timed out before it, and so needs a Gap."""
        subscription = self._subscriptions.get(user_id)
        if subscription is None:
            return False
        subscription.confirmed.set()
        timed_out, subscription.timed_out = subscription.timed_out, False
        return timed_out

    def to_subscribe(self) -> list[int]:
        """Return the users to subscribe to now, each once."""
        self.pending.clear()
        users, self._to_subscribe = self._to_subscribe, []
        return users

    def to_unsubscribe(self) -> list[int]:
        """Return the users to unsubscribe from now, and forget them.

        Only users with a confirmed subscription: a confirmation that is still to come could otherwise be mistaken for
        that of a later subscription to the same user.
        """
        before = time.monotonic() - self._delay
        users = [
            user_id
            for user_id, since in self._unsubscribed_at.items()
            if since <= before and self._subscriptions[user_id].confirmed.is_set()
        ]
        for user_id in users:
            del self._subscriptions[user_id], self._unsubscribed_at[user_id]
        return users

    def connection_lost(self) -> None:
        """Forget the unsubscribed users; all others are to be subscribed to again."""
        for user_id in self._unsubscribed_at:
            del self._subscriptions[user_id]
        self._unsubscribed_at = {}
        for subscription in self._subscriptions.values():
            subscription.confirmed.clear()
        self._to_subscribe = list(self._subscriptions)

"""The subscribers of this process, by user. The hub never awaits, so no connection can delay another.

A subscriber holds a position and, until it next runs, the newest notification of each name that followed on from it: a
slow client costs a cursor, never a queue.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from microblog_rt import metrics
from microblog_rt.errors import Draining
from microblog_rt.protocol import FURTHEST, Notification, Signal

UNKNOWN = -1
NAMES_KEPT = 32


class Subscriber:
    """One tab, stream or held poll. ``position`` is the clock up to which it is current, in microseconds."""

    __slots__ = (
        "_pending",
        "_reached",
        "_reading",
        "_timer",
        "_waiter",
        "_wanted",
        "back_in",
        "closing",
        "position",
        "user_id",
    )

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self.position = UNKNOWN
        self.closing = False
        self.back_in = 0.0
        self._pending: dict[str, Notification] = {}  # by name
        self._reached = UNKNOWN  # the clock after the newest of these
        self._wanted = FURTHEST  # the clock that a read must reach
        self._reading = UNKNOWN  # the same, of the read that is running
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def must_read(self) -> bool:
        """Whether only a read can bring it up to date."""
        return self._wanted > self.position

    async def wait(self, deadline: float, not_before: float = 0) -> None:
        """Return when there is something to do, after ``not_before``, or at ``deadline``; both in loop time."""
        loop = asyncio.get_running_loop()
        ready = self.must_read or bool(self._pending)
        if ready and not_before > loop.time():
            ready, deadline = False, min(deadline, not_before)
        if ready or self.closing or loop.time() >= deadline:
            return
        # One timer until the deadline moves: a new one for each change would cost more than the change.
        if self._timer is None or self._timer.when() != deadline:
            self.cancel_timer()
            self._timer = loop.call_at(deadline, self._time_out)
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def cancel_timer(self) -> None:
        """Cancel the timer of ``wait``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def deliver(self, signal: Signal) -> None:
        """Keep a notification that follows on from what is known; read for anything else that is new."""
        known = max(self.position, self._reached)
        if signal.clock <= known:
            return
        if signal.notification is None or signal.follows != known or self.must_read or len(self._pending) == NAMES_KEPT:
            self._want(signal.clock)
            return
        metrics.CONFLATED.count(self._pending.pop(signal.notification.name, None) is not None)
        self._pending[signal.notification.name] = signal.notification
        self._reached = signal.clock
        self._wake()

    def begin_read(self) -> None:
        """Note that a read begins, which answers every signal delivered so far."""
        self._reading, self._wanted = self._wanted, UNKNOWN

    def end_read(self, clock: int) -> None:
        """Note that the read saw everything up to ``clock``; pending notifications that are newer stay."""
        self.position = max(self.position, clock)
        self._reading = UNKNOWN
        self._pending = {name: each for name, each in self._pending.items() if each.timestamp > clock}

    def read_failed(self) -> None:
        """Note that the read that was begun must be repeated."""
        self._wanted, self._reading = max(self._wanted, self._reading), UNKNOWN

    def take_pending(self) -> list[Notification]:
        """Remove and return the pending notifications, in order; the position moves to the end of them."""
        pending = list(self._pending.values())
        self._pending = {}
        self.position = max(self.position, self._reached)
        return pending

    def close(self, back_in: float) -> None:
        """End the subscription because the process is draining; the client may return after ``back_in`` seconds."""
        self.closing = True
        self.back_in = back_in
        self._wake()

    def _want(self, clock: int) -> None:
        self._wanted = max(self._wanted, clock)
        self._pending = {}
        self._reached = UNKNOWN
        self._wake()

    def _time_out(self) -> None:
        self._timer = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class UserSubscribers:
    """The subscribers of one user, and the latest clock reading of which a signal has arrived."""

    __slots__ = ("signalled", "subscribers")

    def __init__(self) -> None:
        self.subscribers: set[Subscriber] = set()
        self.signalled = UNKNOWN

    def misses(self, clock: int) -> bool:
        """Whether they still subscribe, and no signal up to ``clock`` has arrived for them."""
        return bool(self.subscribers) and self.signalled < clock


class SubscriptionObserver(Protocol):
    """Called once per user: when the first subscriber is added and when the last one is removed."""

    def subscribe(self, user_id: int) -> None:
        """The user has a subscriber now."""

    def unsubscribe(self, user_id: int) -> None:
        """The user has no subscriber now."""


class Hub:
    """Every subscriber of this process; ``empty`` is set once it is closing and the last one has left."""

    def __init__(self, observer: SubscriptionObserver | None = None) -> None:
        self._observer = observer
        self._users: dict[int, UserSubscribers] = {}
        self.closing = False
        self._back_in: Callable[[], float] = float
        self.empty = asyncio.Event()

    @contextmanager
    def subscribe(self, user_id: int) -> Iterator[Subscriber]:
        """Subscribe to ``user_id`` until the block is left. Subscribe first, read second."""
        subscriber = Subscriber(user_id)
        subscriber.closing, subscriber.back_in = self.closing, self._back_in()
        self._add(subscriber)
        try:
            yield subscriber
        finally:
            subscriber.cancel_timer()
            self._remove(subscriber)
            self._set_if_empty()

    def deliver(self, signal: Signal, *, by_sweep: bool = False) -> None:
        """Deliver a signal to the subscribers of its user; ``by_sweep``: it stands for one that has not arrived."""
        user = self._users.get(signal.user_id)
        if user is None:
            return
        if not by_sweep:
            user.signalled = max(user.signalled, signal.clock)
        for subscriber in user.subscribers:
            subscriber.deliver(signal)

    def user(self, user_id: int) -> UserSubscribers | None:
        """The subscribers of a user, if there are any."""
        return self._users.get(user_id)

    def stop_accepting(self, back_in: Callable[[], float]) -> None:
        """Refuse new subscribers, because the process is draining; ``back_in()`` is when to try again, in seconds."""
        self.closing = True
        self._back_in = back_in
        self._set_if_empty()

    def check_open(self) -> None:
        """Raise Draining if new subscribers are refused."""
        if self.closing:
            raise Draining(self._back_in())

    def subscribers(self) -> list[Subscriber]:
        """All current subscribers."""
        return [each for user in self._users.values() for each in user.subscribers]

    def positions(self, user_ids: Iterable[int] | None = None) -> dict[int, int]:
        """For each user with a subscriber (of ``user_ids``, if given), the position of the one furthest behind."""
        wanted = self._users if user_ids is None else [each for each in user_ids if each in self._users]
        return {each: min(one.position for one in self._users[each].subscribers) for each in wanted}

    def _add(self, subscriber: Subscriber) -> None:
        if subscriber.user_id not in self._users:
            self._users[subscriber.user_id] = UserSubscribers()
            if self._observer is not None:
                self._observer.subscribe(subscriber.user_id)
        self._users[subscriber.user_id].subscribers.add(subscriber)

    def _remove(self, subscriber: Subscriber) -> None:
        remaining = self._users[subscriber.user_id].subscribers
        remaining.remove(subscriber)
        if not remaining:
            del self._users[subscriber.user_id]
            if self._observer is not None:
                self._observer.unsubscribe(subscriber.user_id)

    def _set_if_empty(self) -> None:
        if self.closing and not self._users:
            self.empty.set()

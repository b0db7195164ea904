"""Who listens in this process: user -> subscribers. The hub never awaits, so no socket can delay another.

A subscriber holds a position (the clock it has seen) and, until it looks, the newest notification of each name that
followed on from it: state replaces state, so a slow reader holds a cursor and never a queue. Not here: reading
the database (``feed.py``) and word from other processes (``bus/``).
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from microblog_rt import metrics
from microblog_rt.errors import Draining
from microblog_rt.protocol import FURTHEST, Notification, Signal

UNKNOWN = -1
NAMES_KEPT = 32


class Subscriber:
    """One tab, from the moment it listens. ``position`` is the clock up to which it knows everything."""

    __slots__ = (
        "_alarm",
        "_kept",
        "_reached",
        "_sought",
        "_wanted",
        "_woken",
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
        self._kept: dict[str, Notification] = {}
        self._reached = UNKNOWN
        self._wanted = FURTHEST
        self._sought = UNKNOWN
        self._woken: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def must_read(self) -> bool:
        """Whether only a read can tell what is new."""
        return self._wanted > self.position

    async def wait(self, deadline: float, not_before: float = 0) -> None:
        """Return once there is something to do, or at ``deadline`` (the loop's time). News can wait: ``not_before``."""
        loop = asyncio.get_running_loop()
        news = self.must_read or bool(self._kept)
        if news and not_before > loop.time():
            news, deadline = False, min(deadline, not_before)
        if news or self.closing or loop.time() >= deadline:
            return
        # The same alarm serves until the deadline moves: a new one for each change would cost more than the change.
        if self._alarm is None or self._alarm.when() != deadline:
            self.leave()
            self._alarm = loop.call_at(deadline, self._ring)
        self._woken = loop.create_future()
        try:
            await self._woken
        finally:
            self._woken = None

    def leave(self) -> None:
        """Nobody waits any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def deliver(self, signal: Signal) -> None:
        """Keep a notification that follows on from what is known; anything else that is new needs a read."""
        known = max(self.position, self._reached)
        if signal.clock <= known:
            return
        if signal.notification is None or signal.follows != known or self.must_read or len(self._kept) == NAMES_KEPT:
            self._want(signal.clock)
            return
        metrics.CONFLATED.count(self._kept.pop(signal.notification.name, None) is not None)
        self._kept[signal.notification.name] = signal.notification
        self._reached = signal.clock
        self._rouse()

    def distrust(self) -> None:
        """Something may have been missed: only a read that begins after this will do."""
        self._want(FURTHEST)

    def has_heard(self, clock: int) -> bool:
        """Whether word of everything up to ``clock`` has come, told or not."""
        return clock <= max(self.position, self._reached, self._wanted, self._sought)

    def begin_read(self) -> None:
        """A read begins; it answers every call for one up to now."""
        self._sought, self._wanted = self._wanted, UNKNOWN

    def end_read(self, clock: int) -> None:
        """The read saw everything up to ``clock``; what was kept and is newer stays."""
        self.position = max(self.position, clock)
        self._sought = UNKNOWN
        self._kept = {name: each for name, each in self._kept.items() if each.timestamp > clock}

    def take_pending(self) -> list[Notification]:
        """What was kept, in order; the position moves to the end of it."""
        kept = list(self._kept.values())
        self._kept = {}
        self.position = max(self.position, self._reached)
        return kept

    def close(self, back_in: float) -> None:
        """The process is going away; who listens may come back in so many seconds."""
        self.closing = True
        self.back_in = back_in
        self._rouse()

    def _want(self, clock: int) -> None:
        self._wanted = max(self._wanted, clock)
        self._kept = {}
        self._reached = UNKNOWN
        self._rouse()

    def _ring(self) -> None:
        self._alarm = None
        self._rouse()

    def _rouse(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


class SubscriptionObserver(Protocol):
    """Who wants to know whom anybody listens to here: told once for each user, of the first and of the last."""

    def subscribe(self, user_id: int) -> None:
        """Somebody listens to that user."""

    def unsubscribe(self, user_id: int) -> None:
        """Nobody does any more."""


class Hub:
    """Every subscriber of this process; ``empty`` once it is closing and the last of them has left."""

    def __init__(self, audience: SubscriptionObserver | None = None) -> None:
        self._audience = audience
        self._subscribers: dict[int, set[Subscriber]] = {}
        self.closing = False
        self._back_in: Callable[[], float] = float
        self.empty = asyncio.Event()

    @contextmanager
    def subscribe(self, user_id: int) -> Iterator[Subscriber]:
        """Listen to what concerns ``user_id`` until the block is left. Listen first, read second."""
        subscriber = Subscriber(user_id)
        subscriber.closing, subscriber.back_in = self.closing, self._back_in()
        self._add(subscriber)
        try:
            yield subscriber
        finally:
            subscriber.leave()
            self._remove(subscriber)
            self._note_if_empty()

    def deliver(self, signal: Signal) -> None:
        """Pass word on to the subscribers of one user."""
        for subscriber in self._subscribers.get(signal.user_id, ()):
            subscriber.deliver(signal)

    def distrust(self, user_id: int) -> None:
        """BusEvent of one user may have been lost: their subscribers read."""
        for subscriber in self._subscribers.get(user_id, ()):
            subscriber.distrust()

    def wake_all(self) -> None:
        """BusEvent may have been lost: everybody reads."""
        for subscriber in self.subscribers():
            subscriber.distrust()

    def stop_accepting(self, back_in: Callable[[], float]) -> None:
        """This process is going away: nobody may begin to listen any more; ``back_in`` says when to try again."""
        self.closing = True
        self._back_in = back_in
        self._note_if_empty()

    def check_open(self) -> None:
        """Raise Draining where nobody may begin to listen any more."""
        if self.closing:
            raise Draining(self._back_in())

    def subscribers(self) -> list[Subscriber]:
        """All who listen now."""
        return [subscriber for some in self._subscribers.values() for subscriber in some]

    def positions(self) -> dict[int, int]:
        """For each user that is listened to, the position of the subscriber that is furthest behind."""
        return {user_id: min(each.position for each in some) for user_id, some in self._subscribers.items()}

    def has_heard(self, user_id: int, clock: int) -> bool:
        """Whether every subscriber of that user knows that there is something up to ``clock``."""
        return all(each.has_heard(clock) for each in self._subscribers.get(user_id, ()))

    def _add(self, subscriber: Subscriber) -> None:
        if subscriber.user_id not in self._subscribers:
            self._subscribers[subscriber.user_id] = set()
            if self._audience is not None:
                self._audience.subscribe(subscriber.user_id)
        self._subscribers[subscriber.user_id].add(subscriber)

    def _remove(self, subscriber: Subscriber) -> None:
        mine = self._subscribers[subscriber.user_id]
        mine.remove(subscriber)
        if not mine:
            del self._subscribers[subscriber.user_id]
            if self._audience is not None:
                self._audience.unsubscribe(subscriber.user_id)

    def _note_if_empty(self) -> None:
        if self.closing and not self._subscribers:
            self.empty.set()

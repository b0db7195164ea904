"""The subscribers of this process, by user. The hub never awaits, so no connection can delay another.

A subscriber holds a position and, while its client reads nothing, the newest notification of each name that followed on
from it: a slow client costs a cursor, never a queue.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from microblog_rt import metrics
from microblog_rt.errors import Draining
from microblog_rt.protocol import FURTHEST, Notification, Signal

log = logging.getLogger(__name__)

UNKNOWN = -1
NAMES_KEPT = 32


class Subscriber:
    """One tab, stream or held poll. ``position`` is the clock up to which it is current, in microseconds."""

    __slots__ = ("_pending", "_reached", "_reading", "_wanted", "position", "user_id")

    drains = True  # whether the drain closes it, and waits for it

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self.position = UNKNOWN
        self._pending: dict[str, Notification] | None = None  # by name
        self._reached = UNKNOWN  # the clock after the newest of these
        self._wanted = FURTHEST  # the clock that a read must reach
        self._reading = UNKNOWN  # the same, of the read that is running

    @property
    def must_read(self) -> bool:
        """Whether only a read can bring it up to date."""
        return self._wanted > self.position

    def deliver(self, signal: Signal) -> None:
        """Keep a notification that follows on from what is known; read for anything else that is new."""
        known = max(self.position, self._reached)
        if signal.clock <= known:
            return
        full = self._pending is not None and len(self._pending) == NAMES_KEPT
        if signal.notification is None or signal.follows != known or self.must_read or full:
            self.want(signal.clock)
            return
        if self._pending is None:
            self._pending = {}
        metrics.CONFLATED.count(self._pending.pop(signal.notification.name, None) is not None)
        self._pending[signal.notification.name] = signal.notification
        self._reached = signal.clock
        self.advance()

    def want(self, clock: int) -> None:
        """Note that a read must reach ``clock``."""
        self._wanted = max(self._wanted, clock)
        self._pending = None
        self._reached = UNKNOWN
        self.advance()

    def begin_read(self) -> None:
        """Note that a read begins, which answers every signal delivered so far."""
        self._reading, self._wanted = self._wanted, UNKNOWN

    def end_read(self, clock: int) -> None:
        """Note that the read saw everything up to ``clock``; pending notifications that are newer stay."""
        self.position = max(self.position, clock)
        self._reading = UNKNOWN
        if self._pending:
            self._pending = {name: each for name, each in self._pending.items() if each.timestamp > clock}

    def read_failed(self) -> None:
        """Note that the read that was begun must be repeated."""
        self._wanted, self._reading = max(self._wanted, self._reading), UNKNOWN

    def take_pending(self) -> list[Notification]:
        """Remove and return the pending notifications, in order; the position moves to the end of them."""
        pending = list(self._pending.values()) if self._pending else []
        self._pending = None
        self.position = max(self.position, self._reached)
        return pending

    def confirmed(self) -> int:
        """The timestamp up to which its client has notifications of every name; UNKNOWN if that is not certain."""
        return UNKNOWN

    def advance(self) -> None:
        """Called when there is something to read or to take."""

    def close(self, back_in: float) -> None:
        """Called when the process drains; the client may return after ``back_in`` seconds."""


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
        self._to_drain = 0
        self.closing = False
        self._back_in: Callable[[], float] = float
        self.empty = asyncio.Event()
        self._left: dict[int, int] | None = None  # what removed subscribers had confirmed, by user

    def add(self, subscriber: Subscriber) -> None:
        """Subscribe; read only after that. Closes the subscriber at once if the process is draining."""
        user = self._users.get(subscriber.user_id)
        if user is None:
            user = self._users[subscriber.user_id] = UserSubscribers()
            if self._observer is not None:
                self._observer.subscribe(subscriber.user_id)
        user.subscribers.add(subscriber)
        self._to_drain += subscriber.drains
        if self.closing and subscriber.drains:
            subscriber.close(self._back_in())

    def remove(self, subscriber: Subscriber) -> None:
        """Unsubscribe."""
        remaining = self._users[subscriber.user_id].subscribers
        remaining.remove(subscriber)
        if self._left is not None:
            self._left[subscriber.user_id] = max(self._left.get(subscriber.user_id, UNKNOWN), subscriber.confirmed())
        if not remaining:
            del self._users[subscriber.user_id]
            if self._observer is not None:
                self._observer.unsubscribe(subscriber.user_id)
        self._to_drain -= subscriber.drains
        self._set_if_empty()

    def deliver(self, signal: Signal, *, by_sweep: bool = False) -> None:
        """Deliver a signal to the subscribers of its user; ``by_sweep``: it stands for one that has not arrived."""
        user = self._users.get(signal.user_id)
        if user is None:
            return
        if not by_sweep:
            user.signalled = max(user.signalled, signal.clock)
        for subscriber in tuple(user.subscribers):  # one that ends removes itself
            try:
                subscriber.deliver(signal)
            except Exception:  # must affect neither the others nor the sender
                log.exception("subscriber failed")

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
        """The current subscribers that a drain closes."""
        return [each for user in self._users.values() for each in user.subscribers if each.drains]

    def positions(self, user_ids: Iterable[int] | None = None) -> dict[int, int]:
        """For each user with a subscriber (of ``user_ids``, if given), the position of the one furthest behind."""
        wanted = self._users if user_ids is None else [each for each in user_ids if each in self._users]
        return {each: min(one.position for one in self._users[each].subscribers) for each in wanted}

    def confirmed(self) -> dict[int, int]:
        """For each user with a subscriber, the greatest timestamp that one of them has received.

        Also for those whose subscribers were removed, once ``remember_left`` was called.
        """
        found = {each: max(one.confirmed() for one in user.subscribers) for each, user in self._users.items()}
        for each, cursor in (self._left or {}).items():
            found[each] = max(found.get(each, UNKNOWN), cursor)
        return found

    def remember_left(self, stored: dict[int, int]) -> None:
        """Remember what removed subscribers had confirmed, beyond what is ``stored``, until the next call."""
        self._left = {each: cursor for each, cursor in (self._left or {}).items() if cursor > stored.get(each, UNKNOWN)}

    def _set_if_empty(self) -> None:
        if self.closing and not self._to_drain:
            self.empty.set()

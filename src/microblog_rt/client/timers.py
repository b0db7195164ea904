"""Timers and delays of the client's state machine. All times are in milliseconds of a monotonic clock."""

from collections.abc import Callable

LONGEST_WAIT = 300_000.0  # whatever the server says

FIRST_BACKOFF = 500.0
LAST_BACKOFF = 30_000.0

Random = Callable[[], float]


class Clock:
    """A clock that its owner advances, and the timers that depend on it.

    >>> clock, calls = Clock(), []
    >>> Timer(clock).set(20, lambda: calls.append("late"))
    >>> Timer(clock).set(10, lambda: calls.append("early"))
    >>> clock.due
    10.0
    >>> clock.advance(30)
    >>> calls, clock.due
    (['early', 'late'], None)
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._pending: dict[Timer, tuple[float, int, Callable[[], None]]] = {}
        self._set = 0

    @property
    def due(self) -> float | None:
        """The time of the next timer; None without one."""
        return min((due for due, _, _ in self._pending.values()), default=None)

    def advance(self, now: float) -> None:
        """Set the clock, which is never set back, and run the timers that are due in their order."""
        self.now = max(self.now, now)
        while self._pending:
            timer = min(self._pending, key=lambda each: self._pending[each][:2])
            due, _, callback = self._pending[timer]
            if due > self.now:
                return
            del self._pending[timer]
            callback()

    def start(self, timer: "Timer", ms: float, callback: Callable[[], None]) -> None:
        self._set += 1
        self._pending[timer] = (self.now + max(0.0, ms), self._set, callback)

    def stop(self, timer: "Timer") -> None:
        self._pending.pop(timer, None)

    def is_pending(self, timer: "Timer") -> bool:
        return timer in self._pending


class Timer:
    """One timer. Setting it again replaces the pending call."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def pending(self) -> bool:
        return self._clock.is_pending(self)

    def set(self, ms: float, callback: Callable[[], None]) -> None:
        self._clock.start(self, ms, callback)

    def clear(self) -> None:
        self._clock.stop(self)


class Backoff:
    """Exponential backoff with full jitter, so that clients do not reconnect all at once after a restart.

    >>> backoff = Backoff(lambda: 0.5)
    >>> [backoff.next() for _ in range(8)]
    [250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 15000.0, 15000.0]
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._limit = FIRST_BACKOFF

    def next(self) -> float:
        """A random delay between 0 and a limit that doubles with each call, up to 30 s."""
        ms = self._random() * self._limit
        self._limit = min(2 * self._limit, LAST_BACKOFF)
        return ms

    def reset(self) -> None:
        self._limit = FIRST_BACKOFF


def jitter(random: Random, ms: float) -> float:
    """``ms`` plus up to 20 %."""
    return ms * (1 + random() / 5)

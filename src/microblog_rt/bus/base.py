"""The contract of a bus.

A bus delivers the signals of one process to every *other* process; the hub delivers them to the subscribers of its
own. Delivery is best effort: a signal may arrive late, twice, out of order, merged with a newer one of the same user,
or not at all. A lost signal costs latency only, because the sweep finds what was missed.

Construction does no I/O and needs no event loop. Afterwards all methods run in one event loop, and the creator awaits
``close`` in that loop. No other method has to be called first.

Publishing. ``publish(signal)`` is called after the commit, never inside the transaction: no bus can make a write fail.
It never blocks and never raises. While the broker is unavailable, signals wait in a bounded queue.
``close`` publishes what is queued for at most ``Timeouts.publish_on_close``, then closes all connections and ends all
tasks; ``publish`` after ``close`` does nothing.

Subscribing. ``subscribe`` is called for the first subscriber of a user in this process, ``unsubscribe`` after the
last. Both return immediately. Signals of other users may or may not arrive. ``wait_subscribed`` returns when that
user's signals arrive, or after ``Timeouts.subscribe``, or immediately if the broker is known to be unavailable. A
read after it misses nothing: if the signals begin to arrive only later, a ``Gap`` for that user follows.

Receiving. ``events`` never ends by itself, whatever the broker does. There is one iteration at a time, and none during
``close``; closing the iterator closes its connection. ``connected`` is set while signals arrive. The events are:

- ``Signal``: another process published it.
- ``Changed``: a process committed a transaction, and any user's clock may have moved.
- ``Gap``: signals may have been lost. Yielded once after each connection except one that the first attempt made.

An open connection does not prove that signals arrive. A bus over a network sends itself a heartbeat, and reconnects
if none has arrived for ``Timeouts.heartbeat_lost``. ``health`` reports what has arrived.

An outage is logged once when it begins and once when it ends, without the URL, which may contain a password.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import NamedTuple

from microblog_rt.bus.heartbeat import Heartbeat
from microblog_rt.protocol import Signal
from microblog_rt.timeouts import Timeouts


class Gap:
    """Signals may have been lost before this event: those of ``user_id``, or of all users if it is None."""

    __slots__ = ("user_id",)

    def __init__(self, user_id: int | None = None) -> None:
        self.user_id = user_id


class Changed:
    """A process has committed a transaction; it may have been this process."""


BusEvent = Signal | Gap | Changed


class Health(NamedTuple):
    """The state of a bus.

    ``state`` is one of: connected, no_heartbeat (connected, but nothing arrives), disconnected, single_process (there
    are no other processes). ``heard_seconds_ago`` is the age of the last heartbeat received.
    """

    backend: str
    state: str
    heard_seconds_ago: float | None


class Bus(ABC):
    """Base class of the backends; by default the signals of every user arrive."""

    backend: str
    confirms = False  # whether ``wait_subscribed`` may have to wait

    def __init__(self, timeouts: Timeouts = Timeouts()) -> None:
        self.timeouts = timeouts
        self.connected = asyncio.Event()
        self.heartbeat = Heartbeat(timeouts)

    @abstractmethod
    def publish(self, signal: Signal) -> None:
        """Send ``signal`` to the other processes in the background; call it after the commit."""

    def subscribe(self, user_id: int) -> None:  # noqa: B027
        """Start to receive the signals of that user."""

    def unsubscribe(self, user_id: int) -> None:  # noqa: B027
        """Stop receiving the signals of that user."""

    async def wait_subscribed(self, user_id: int) -> None:  # noqa: B027
        """Wait until the signals of a subscribed user arrive, at most ``Timeouts.subscribe``."""

    @abstractmethod
    def events(self) -> AsyncGenerator[BusEvent]:
        """Yield what other processes publish from now on."""

    def health(self) -> Health:
        """Return the state according to the last heartbeat; no I/O."""
        ago = self.heartbeat.seconds_ago()
        if not self.connected.is_set():
            return Health(self.backend, "disconnected", ago)
        alive = ago is not None and ago <= self.timeouts.heartbeat_lost
        return Health(self.backend, "connected" if alive else "no_heartbeat", ago)

    @abstractmethod
    async def close(self) -> None:
        """Publish what is queued, for a bounded time, then close all connections."""

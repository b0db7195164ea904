"""The contract of a bus.

A bus crosses processes and nothing else: what a process tells reaches the subscribers of every *other* process; its
own are the hub's affair. It is a hint. A signal-up may be late, doubled, out of order, merged with a newer one of the
same user, or lost, and never costs more than latency, since the sweep finds what was missed.

``connect`` makes a bus and touches no network, inside or outside of an event loop. Nothing wants entering: every verb
works from then on, in one event loop, and whoever connected awaits ``close`` in that loop at the end.

``stage`` is called inside the transaction, once all that is told is written, and ``publish`` with the same signal-up
after the commit. What is staged is seen at the commit, and never without it; most backends stage nothing. ``stage``
asks only the transaction, never the bus's own connection, so that it fails only where the transaction does.
``publish`` neither raises nor waits for anybody, whatever the broker does. What cannot be told yet is kept, in a
bounded space, and told when the broker is back. ``close`` goes on telling for at most half a second, and leaves no
task and no connection behind; a ``publish`` after it does nothing.

``join`` and ``leave`` say for whom somebody listens in this process: once each, when the first comes and when the
last has gone. They never wait. BusEvent of other users need not arrive. ``subscribed`` returns when word of that user
arrives, or after ``SUBSCRIBED_WITHIN``, and at once where the bus is known to be away; who reads after it misses
nothing: if word began to arrive only later, there is a ``Gap`` for that user then.

``listen`` goes on for ever, whatever the broker does; one listening at a time, and none when ``close`` is called.
Closing the iteration unsubscribes. ``listening`` is set while word from the others arrives here: who waits for it
before the first read misses nothing. Three words arrive. ``Signal`` is what somebody told. ``Changed`` says that
somebody committed something: look who is behind. ``Gap`` says that some may have been lost: where a backend knows
that, because its connection broke and stands again, or came about only at a later attempt than the first, it says so
once, after it stands; a first connection at the first attempt is no Gap.

A connection that stands is no proof that anything arrives. A backend that crosses a network sends itself a heartbeat
and wants to hear it; deaf for ``heartbeat.DEAF`` seconds, it connects and subscribes again. ``health`` tells what was
heard, not what was set up.

Trouble is logged once when it begins and once when it is over, and never with the URL: it may hold a password.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple, Protocol

from microblog_rt.bus.heartbeat import DEAF, Heartbeat
from microblog_rt.protocol import Signal

SUBSCRIBED_WITHIN = 0.1  # seconds


class Gap:
    """Signal-ups may have been lost before this point: those of ``user_id``, or of anybody."""

    __slots__ = ("user_id",)

    def __init__(self, user_id: int | None = None) -> None:
        self.user_id = user_id


class Changed:
    """Somebody has committed something, perhaps this process itself."""


BusEvent = Signal | Gap | Changed


class Health(NamedTuple):
    """``state``: heard, deaf (connected in vain), away (not connected), or alone (there is nobody to hear)."""

    backend: str
    state: str
    heard_seconds_ago: float | None


class Transaction(Protocol):
    """What ``stage`` wants of an open transaction: SQLAlchemy's asynchronous connection has it."""

    def exec_driver_sql(self, statement: str, parameters: Any) -> Any:
        """Execute ``statement`` as the driver takes it."""


class Bus(ABC):
    """What a backend does not say otherwise: it stages nothing, and word of every user arrives."""

    backend: str

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.heartbeat = Heartbeat()

    def stage(self, tx: Transaction, signal: Signal) -> None:  # noqa: B027
        """Have ``signal`` told at the commit of ``tx``, where the database itself is the bus."""

    @abstractmethod
    def publish(self, signal: Signal) -> None:
        """Tell the other processes, after the commit."""

    def subscribe(self, user_id: int) -> None:  # noqa: B027
        """Somebody listens here to that user."""

    def unsubscribe(self, user_id: int) -> None:  # noqa: B027
        """Nobody does any more."""

    async def wait_subscribed(self, user_id: int) -> None:  # noqa: B027
        """Wait a moment for word of that user, who has joined, to arrive here."""

    @abstractmethod
    def events(self) -> AsyncGenerator[BusEvent]:
        """What the other processes tell, from now on."""

    def health(self) -> Health:
        """How it stands, as last heard."""
        ago = self.heartbeat.ago()
        if not self.connected.is_set():
            return Health(self.backend, "away", ago)
        return Health(self.backend, "deaf" if ago is None or ago > DEAF else "heard", ago)

    @abstractmethod
    async def close(self) -> None:
        """Tell what is still untold, for a moment; then let go of everything."""

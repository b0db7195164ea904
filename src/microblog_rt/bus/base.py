"""The contract of a bus.

A bus crosses processes and nothing else: what a process publishes reaches the listeners of every *other*
process; its own are the hub's affair. It is a hint. A wake-up may be late, doubled, out of order, merged with
a newer one of the same user, or lost, and never costs more than latency, since the sweep finds what was missed.

``connect`` makes a bus and touches no network, inside or outside of an event loop. Nothing wants entering:
``publish`` works from then on, in one event loop, and whoever connected awaits ``close`` in that loop at the end.

``publish`` is called after the commit. It neither raises nor waits for anybody, whatever the broker does. What
cannot be told yet is kept, in a bounded space, and told when the broker is back. ``close`` goes on telling for at
most half a second, and leaves no task and no connection behind; a ``publish`` after it does nothing.

``listen`` goes on for ever, whatever the broker does; one listening at a time, and none when ``close`` is called.
Closing the iteration unsubscribes. ``listening`` is set while word from the others arrives here: who waits for it
before the first read misses nothing. Where a backend knows that it may have lost some, because its connection
broke and stands again, or came about only at a later attempt than the first, it says ``Gap``, once, before
anything newer; a first connection at the first attempt is no Gap.

Trouble is logged once when it begins and once when it is over, and never with the URL: it may hold a password.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

from microblog_rt.protocol import Wake


class Gap:
    """Wake-ups may have been lost before this point."""


class Bus(Protocol):
    listening: asyncio.Event

    async def publish(self, wake: Wake) -> None:
        """Tell the other processes, after the commit."""

    def listen(self) -> AsyncGenerator[Wake | Gap]:
        """What the other processes tell, from now on."""

    async def close(self) -> None:
        """Tell what is still untold, for a moment; then let go of everything."""

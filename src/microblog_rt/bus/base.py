"""The contract of a bus.

A bus crosses processes and nothing else: what a process publishes reaches the listeners of every *other*
process; its own are the hub's affair. It is a hint. A wake-up may be late, doubled, out of order or lost, and
never costs more than latency, since the sweep finds what was missed. But where a backend knows that it may
have lost some, because its connection broke and stands again, it says ``Gap``, once, before anything newer;
the first connection is no Gap. ``publish`` is called after the commit; it neither raises nor keeps a sender
waiting. Leaving the iteration of ``listen`` unsubscribes.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from microblog_rt.protocol import Wake


class Gap:
    """Wake-ups may have been lost before this point."""


class Bus(Protocol):
    async def publish(self, wake: Wake) -> None:
        """Tell the other processes, after the commit."""

    def listen(self) -> AsyncIterator[Wake | Gap]:
        """What the other processes tell, from now on."""

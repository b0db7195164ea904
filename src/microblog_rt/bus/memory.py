"""``memory://``: one process, so there is nobody else to tell and nothing to hear."""

import asyncio
from collections.abc import AsyncGenerator

from microblog_rt.bus.base import Bus, BusEvent, Gap, Health
from microblog_rt.protocol import Signal


class MemoryBus(Bus):
    backend = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.connected.set()

    def publish(self, signal: Signal) -> None:
        """Nobody else is there."""

    async def events(self) -> AsyncGenerator[BusEvent]:
        """Nothing, until the listening ends."""
        await asyncio.get_running_loop().create_future()
        yield Gap()

    def health(self) -> Health:
        """Always the same."""
        return Health(self.backend, "alone", None)

    async def close(self) -> None:
        """There is nothing to let go of."""

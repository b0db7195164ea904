"""``memory://``: a single process, hence no signals to send or receive."""

import asyncio
from collections.abc import AsyncGenerator

from microblog_rt.bus.base import Bus, BusEvent, Gap, Health
from microblog_rt.protocol import Signal
from microblog_rt.timeouts import Timeouts


class MemoryBus(Bus):
    backend = "memory"

    def __init__(self, timeouts: Timeouts = Timeouts()) -> None:
        super().__init__(timeouts)
        self.connected.set()

    def publish(self, signal: Signal) -> None:
        """Do nothing: there is no other process."""

    async def events(self) -> AsyncGenerator[BusEvent]:
        """Wait until the iteration is cancelled or closed."""
        await asyncio.get_running_loop().create_future()
        yield Gap()  # pragma: no cover - never reached; it makes this function a generator

    def health(self) -> Health:
        return Health(self.backend, "single_process", None)

    async def close(self) -> None:
        """Do nothing: there are no connections."""

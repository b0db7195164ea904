"""``memory://``: one process, so there is nobody else to tell and nothing to hear."""

import asyncio
from collections.abc import AsyncGenerator

from microblog_rt.bus.base import Gap
from microblog_rt.protocol import Wake


class MemoryBus:
    def __init__(self) -> None:
        self.listening = asyncio.Event()
        self.listening.set()

    async def publish(self, wake: Wake) -> None:
        """Nobody else is there."""

    async def listen(self) -> AsyncGenerator[Wake | Gap]:
        """Nothing, until the listening ends."""
        await asyncio.get_running_loop().create_future()
        yield Gap()

    async def close(self) -> None:
        """There is nothing to let go of."""

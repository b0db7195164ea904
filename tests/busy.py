"""What may be said of time on a machine that is busy, or stands still for a second: how long something really takes.

Not here: deadlines, which cost nothing where what is waited for comes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

TRIES = 5
TURN = 0.02  # seconds


async def quickest(work: Callable[[], Awaitable[object]], enough: float) -> float:
    """The seconds that ``work`` takes: what waits for something does so each time. Not tried again below ``enough``."""
    took: list[float] = []
    while len(took) < TRIES and min(took, default=enough) >= enough:
        begun = time.monotonic()
        await work()
        took.append(time.monotonic() - begun)
    return min(took)


@asynccontextmanager
async def awake() -> AsyncIterator[Callable[[], float]]:
    """The seconds since the block was entered in which this process had its turn: of others it says nothing then."""
    passed, before = 0.0, time.monotonic()

    def so_far() -> float:
        return passed + min(time.monotonic() - before, 2 * TURN)

    async def count() -> None:
        nonlocal passed, before
        while True:
            await asyncio.sleep(TURN)
            passed, before = so_far(), time.monotonic()

    counting = asyncio.create_task(count())
    try:
        yield so_far
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)

"""Work that goes on for as long as a connection is listened to, and what becomes of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def alongside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[Callable[[], None]]:
    """Run ``works`` until the block is left; what is yielded raises, when called, what one of them has raised.

    No TaskGroup: the listening is a generator, and a group's cancellation could strike outside of it.
    """
    tasks = [asyncio.create_task(work) for work in works]

    def check() -> None:
        for task in tasks:
            if task.done():
                task.result()

    try:
        yield check
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Detects a connection on which nothing arrives, and runs tasks while a connection is open."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from microblog_rt.timeouts import Timeouts


class Heartbeat:
    """The heartbeats that one process sends to itself over one bus.

    Lost heartbeats are counted, not timed: a process that was suspended for a minute has sent none, so its connection
    is not considered dead when it resumes.
    """

    def __init__(self, timeouts: Timeouts = Timeouts()) -> None:
        self._interval = timeouts.heartbeat_interval
        self._lost_after = timeouts.heartbeat_lost
        self._unanswered = 0
        self._received_at: float | None = None

    async def run(self, send: Callable[[], Awaitable[None]]) -> None:
        """Call ``send``, whose duration must be bounded, once per interval; never returns."""
        loop = asyncio.get_running_loop()
        self._unanswered = 0
        while True:
            due = loop.time() + self._interval
            self._unanswered += 1
            await send()
            await asyncio.sleep(max(0, due - loop.time()))

    def not_sent(self) -> None:
        """Record that the last heartbeat could not be sent, although the connection works."""
        self._unanswered -= 1

    def received(self) -> None:
        """Record that a heartbeat has arrived."""
        self._unanswered = 0
        self._received_at = time.monotonic()

    def seconds_ago(self) -> float | None:
        """Return the age of the last heartbeat received, None if none ever was."""
        return None if self._received_at is None else time.monotonic() - self._received_at

    def check(self) -> None:
        """Raise TimeoutError if no heartbeat has arrived for too long."""
        if (self._unanswered - 1) * self._interval >= self._lost_after:
            raise TimeoutError(f"no heartbeat received for {self._lost_after:g} seconds")


@asynccontextmanager
async def background_tasks(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[Callable[[], None]]:
    """Run ``coroutines`` until the block exits. Yields a function that raises the exception of a task that failed.

    Not a TaskGroup: ``Bus.events`` is a generator, and a group would cancel the task that iterates over it, even while
    that task runs code outside of the generator.
    """
    tasks = [asyncio.create_task(each) for each in coroutines]

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

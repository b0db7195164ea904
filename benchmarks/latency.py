"""The delay from the form's POST to the frame at each of the recipient's tabs, at a fixed rate of sends."""

import asyncio
import time
from contextlib import AsyncExitStack
from statistics import quantiles

from tests.server_process import Server

from benchmarks import meter, tabs
from benchmarks.browser import Sender, sender
from benchmarks.results import Figure
from benchmarks.tabs import FrameCounter
from benchmarks.world import World

USERS, TABS_EACH = 100, 5
RATE, WARM_UP = 50, 200  # sends per second
SENDERS = 16
GOAL_MEDIAN, GOAL_P99 = 2.0, 8.0  # ms
PERCENTILES = (*range(5, 100, 5), 97, 98, 99)

PLOT = "latency"


def run(world: World) -> list[Figure]:
    """Measure with a new server."""
    with world.serving() as (server, pid):
        return asyncio.run(_measured(server, pid, world))


class TimedFrames(FrameCounter):
    """The frames of one user's tabs, and their delays since the user's last message was sent."""

    def __init__(self, name: str, delays: list[float]) -> None:
        super().__init__()
        self.name = name
        self.sent = 0.0
        self._delays = delays

    def frame_received(self, payload: bytes) -> None:
        super().frame_received(payload)
        self._delays.append(time.perf_counter() - self.sent)


async def _measured(server: Server, pid: int, world: World) -> list[Figure]:
    delays: list[float] = []
    async with AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(sender(server.port, each)) for each in world.senders[:SENDERS]]
        users = []
        for person in world.subscribers[:USERS]:
            users.append(TimedFrames(person.name, delays))
            await stack.enter_async_context(tabs.tabs(server, [person.cookie] * TABS_EACH, users[-1]))
        await _send(senders, users, WARM_UP)
        delays.clear()
        watch = meter.Stopwatch(pid)
        await _send(senders, users, world.sizes.timed_sends)
        used = watch.used()
    parts = quantiles(delays, n=100)
    label = f"send to frame, {USERS * TABS_EACH} tabs, {RATE} sends a second"
    note = f"load generator: {used.load / used.wall:.0%} of a core; server: {used.server / used.wall:.0%}"
    return [
        Figure(f"{label}: median", "ms", parts[49] * 1e3, GOAL_MEDIAN, note=note),
        Figure("  p99", "ms", parts[98] * 1e3, GOAL_P99),
        *[Figure("", "ms", parts[each - 1] * 1e3, plot=(PLOT, float(each))) for each in PERCENTILES],
    ]


async def _send(senders: list[Sender], users: list[TimedFrames], count: int) -> None:
    """Send at the fixed rate, whether or not earlier sends were answered; ``count`` is a multiple of the users."""
    free: asyncio.Queue[Sender] = asyncio.Queue()
    for each in senders:
        free.put_nowait(each)
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(start + number / RATE - time.perf_counter())
            group.create_task(_send_one(free, users[number % len(users)]))
    for user in users:
        await user.until_received(count // len(users) * TABS_EACH)


async def _send_one(free: "asyncio.Queue[Sender]", user: TimedFrames) -> None:
    message_sender = await free.get()
    user.sent = time.perf_counter()
    await message_sender.send(user.name)
    free.put_nowait(message_sender)

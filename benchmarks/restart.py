"""All tabs come back at once after the server was killed: until all are current, and how long sends take meanwhile.

Tabs reconnect as the protocol says: full jitter from half a second, doubled up to 30 s; after 503 as Retry-After says.
"""

import asyncio
import random
import re
import signal
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles

from tests.server_process import Server

from benchmarks import tabs
from benchmarks.browser import Sender, sender
from benchmarks.meter import descriptors
from benchmarks.results import Figure
from benchmarks.tabs import FrameCounter
from benchmarks.world import World

USERS = 1_000
RATE, QUIET = 20, 10.0  # sends per second; seconds without returning tabs
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds
OPENING = 10.0  # seconds until a tab gives up one attempt
GOAL, GOAL_SLOWER = 20.0, 3.0  # seconds, times
PATIENCE = 180.0


def run(world: World) -> list[Figure]:
    """Kill a server with open tabs, and start it again."""
    with world.serving() as (server, _):
        return asyncio.run(_measured(server, world))


async def _measured(server: Server, world: World) -> list[Figure]:
    count = min(world.sizes.returning, descriptors())
    cookies = [world.subscribers[number % USERS].cookie for number in range(count)]
    before = FrameCounter()
    await tabs.open_tabs(server, cookies, before)
    async with sender(server.port, world.senders[0]) as message_sender:
        quiet = await _send_while(message_sender, world, lambda: asyncio.sleep(QUIET))
    before.check()
    await asyncio.to_thread(server.stop, signal.SIGKILL)
    before.close()  # before the start: the class Server cannot use a descriptor above 1,023
    await asyncio.to_thread(server.start)
    start, returned = time.perf_counter(), FrameCounter()
    async with sender(server.port, world.senders[0]) as message_sender:
        meanwhile = await _send_while(message_sender, world, lambda: _all_return(server, cookies, returned))
    back = time.perf_counter() - start
    returned.check()
    returned.close()
    slower = _p99(meanwhile) / _p99(quiet)
    note = f"p99 {_p99(meanwhile) * 1e3:,.0f} ms, and {_p99(quiet) * 1e3:,.0f} ms before, {len(meanwhile)} sends"
    return [
        Figure(f"{count:,} tabs come back after a restart: all current", "s", back, GOAL),
        Figure("  sends meanwhile, p99 against before", "times", slower, GOAL_SLOWER, note=note),
    ]


def _p99(delays: list[float]) -> float:
    return quantiles(delays, n=100, method="inclusive")[98]


async def _send_while(message_sender: Sender, world: World, work: Callable[[], Awaitable[None]]) -> list[float]:
    """Send at a fixed rate to users without a tab until ``work`` is done; the duration of each send."""
    delays: list[float] = []
    working = asyncio.ensure_future(work())
    while not working.done():
        start = time.perf_counter()
        await message_sender.send(world.absent[len(delays) % len(world.absent)].name)
        delays.append(time.perf_counter() - start)
        await asyncio.sleep(max(0, 1 / RATE - delays[-1]))
    await working
    return delays


async def _all_return(server: Server, cookies: list[str], observer: FrameCounter) -> None:
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for cookie in cookies:
            group.create_task(_return(server, cookie, observer))


async def _return(server: Server, cookie: str, observer: FrameCounter) -> None:
    longest = FIRST_WAIT
    while True:
        await asyncio.sleep(random.uniform(0, longest))
        try:
            async with asyncio.timeout(OPENING):
                await tabs.open_tab(observer, server.port, cookie)
            return
        except (OSError, TimeoutError) as error:
            longest = min(2 * longest, LONGEST_WAIT)
            if told := re.search(r"\r\nretry-after: *(\d+)", str(error), re.IGNORECASE):
                await asyncio.sleep(int(told[1]))

"""All tabs come back at once after the server was killed: until all are current, and how long sends take meanwhile.

Tabs reconnect as the protocol says: full jitter from half a second, doubled up to 30 s; after 503 as Retry-After says.
Another process sends, since the one that opens the tabs has a full core's work.
"""

import asyncio
import multiprocessing
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from statistics import quantiles
from threading import Event

from tests.server_process import Server

from benchmarks import tabs
from benchmarks.browser import sender
from benchmarks.meter import descriptors
from benchmarks.results import Figure
from benchmarks.tabs import FrameCounter
from benchmarks.world import Person, World

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
    with sending(server.port, world) as quiet:
        await asyncio.sleep(QUIET)
    before.check()
    await asyncio.to_thread(server.stop, signal.SIGKILL)
    before.close()  # before the start: the class Server cannot use a descriptor above 1,023
    await asyncio.to_thread(server.start)
    returned = FrameCounter()
    with sending(server.port, world) as meanwhile:
        start = time.perf_counter()
        await _all_return(server, cookies, returned)
        back = time.perf_counter() - start
    returned.check()
    returned.close()
    slow, usual = _p99(meanwhile()), _p99(quiet())
    note = f"p99 {slow * 1e3:,.0f} ms, and {usual * 1e3:,.0f} ms before, {len(meanwhile())} sends"
    return [
        Figure(f"{count:,} tabs come back after a restart: all current", "s", back, GOAL),
        Figure("  sends meanwhile, p99 against before", "times", slow / usual, GOAL_SLOWER, note=note),
    ]


def _p99(delays: list[float]) -> float:
    return quantiles(delays, n=100, method="inclusive")[98]


@contextmanager
def sending(port: int, world: World) -> Iterator[Callable[[], list[float]]]:
    """Send at a fixed rate from a process of its own until the exit; gives the durations of the sends afterwards."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(1, spawn) as executor:
        started, finished = manager.Event(), manager.Event()
        names = [person.name for person in world.absent]
        durations: Future[list[float]] = executor.submit(_send, port, world.senders[0], names, started, finished)
        try:
            started.wait(PATIENCE)
            yield durations.result
        finally:
            finished.set()


def _send(port: int, person: Person, recipients: list[str], started: Event, finished: Event) -> list[float]:
    return asyncio.run(_send_until(port, person, recipients, started, finished))


async def _send_until(port: int, person: Person, recipients: list[str], started: Event, finished: Event) -> list[float]:
    """To users without a tab."""
    durations: list[float] = []
    async with sender(port, person) as message_sender:
        started.set()
        while not finished.is_set():
            start = time.perf_counter()
            await message_sender.send(recipients[len(durations) % len(recipients)])
            durations.append(time.perf_counter() - start)
            await asyncio.sleep(max(0, 1 / RATE - durations[-1]))
    return durations


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

"""Clients that never read, beside others that do: memory of the server, and delay of the others.

Three senders write to the user whose clients stall, and one to the others, for whom the delay from the timestamp of
the message to the frame at the tab is measured. The same load runs before the stalled clients connect and after they
have been closed, for comparison. ``tests/test_stalled.py`` is the short form.
"""

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from statistics import quantiles
from typing import NamedTuple

from tests.process_stats import Memory, connections, descriptors
from tests.server_process import DEADLINE, Server

from benchmarks import tabs
from benchmarks.browser import Sender, sender
from benchmarks.results import Figure
from benchmarks.tabs import FrameCounter
from benchmarks.world import Person, World

SENDERS = 4  # one of them sends to the others
RECEIVE_BUFFER = 1024  # bytes; the kernel's minimum
LOOK_EVERY = 0.2  # seconds
NEARLY = 20  # descriptors
CLOSED_WITHIN = 90.0  # seconds to wait until they are closed

GROWTH, CLOSED, SLOWER = 20.0, 30.0, 2.0  # the targets: MiB, seconds, factor


class Plan(NamedTuple):
    """The number of stalled clients, of other users and their tabs, and of updates without and with stalled clients."""

    stalled: int
    users: int
    tabs_each: int
    before: int
    updates: int

    def __str__(self) -> str:
        return f"{self.stalled} stalled readers, {self.updates:,} updates, {self.users * self.tabs_each} others"


class Outcome(NamedTuple):
    """Peak growth in MiB; seconds until all stalled clients are closed; p99 delay in seconds without and with them."""

    growth: float
    gone: float
    quiet: float
    beside: float
    frames: int  # received by the others


PLAN = Plan(stalled=200, users=60, tabs_each=5, before=1_000, updates=10_000)


def run(world: World) -> list[Figure]:
    """Measure with a new server."""
    with world.serving() as (server, _):
        return _figures(PLAN, asyncio.run(measured(server, world, PLAN)))


async def measured(server: Server, world: World, plan: Plan) -> Outcome:
    """Send updates without, then with stalled clients."""
    stalled_user, *others = world.subscribers[: plan.users + 1]
    cookies = [person.cookie for person in others for _ in range(plan.tabs_each)]
    async with AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(sender(server.port, each)) for each in world.senders[:SENDERS]]
        observer = TimedObserver()
        await stack.enter_async_context(tabs.tabs(server, cookies, observer))
        for count in (plan.before // 4, plan.before):
            observer.delays.clear()
            await observer.until_received(plan.tabs_each * await _update(senders, stalled_user, others, count))
        memory, baseline, start = Memory(server), Baseline(server), time.time()
        with stalled(server, stalled_user, plan.stalled):
            leaving = asyncio.create_task(baseline.restored())
            await observer.until_received(plan.tabs_each * await _update(senders, stalled_user, others, plan.updates))
            end = await leaving
            quiet, beside = observer.slowest(start, end)
            return Outcome(memory.peak(), end - start, quiet, beside, len(observer.delays))


class TimedObserver(FrameCounter):
    """Records the arrival time and the delay of each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[tuple[float, float]] = []

    def frame_received(self, payload: bytes) -> None:
        super().frame_received(payload)
        now = time.time()
        self.delays.append((now, now - json.loads(payload)[-1]["timestamp"]))

    def slowest(self, start: float, end: float) -> tuple[float, float]:
        """The p99 delays in seconds of the frames outside, and of those within ``start`` to ``end``."""
        within = [delay for moment, delay in self.delays if start <= moment <= end]
        outside = [delay for moment, delay in self.delays if not start <= moment <= end]
        return quantiles(outside, n=100)[-1], quantiles(within, n=100)[-1]


@contextmanager
def stalled(server: Server, person: Person, count: int) -> Iterator[None]:
    """Open ``count`` tabs of ``person`` that never read after the handshake."""
    request = tabs.handshake(server.port, person.cookie)
    with ExitStack() as stack:
        for _ in range(count):
            raw = stack.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            raw.settimeout(DEADLINE)
            raw.connect(("127.0.0.1", server.port))
            raw.sendall(request)
            assert raw.recv(12) == b"HTTP/1.1 101"
        yield


async def _update(senders: Sequence[Sender], stalled_user: Person, others: Sequence[Person], count: int) -> int:
    """Send ``count`` updates to the stalled clients; the number of updates sent to the others meanwhile."""
    first, *rest = senders
    over = asyncio.Event()
    to_others = asyncio.create_task(_send_until(first, others, over))
    async with asyncio.TaskGroup() as group:
        for each in rest:
            group.create_task(_send(each, stalled_user, count // len(rest)))
    over.set()
    return await to_others


async def _send(message_sender: Sender, stalled_user: Person, count: int) -> None:
    for _ in range(count):
        await message_sender.send(stalled_user.name)


async def _send_until(message_sender: Sender, others: Sequence[Person], over: asyncio.Event) -> int:
    sent = 0
    while not over.is_set():
        await message_sender.send(others[sent % len(others)].name)
        sent += 1
    return sent


class Baseline:
    """The numbers of descriptors and connections of a server at one time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._descriptors = descriptors(server)
        self._connections = connections(server)

    async def restored(self) -> float:
        """Wait until the numbers are that low again; the time at which they were."""
        give_up = time.time() + CLOSED_WITHIN
        while self._exceeded() and time.time() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        return time.time()

    def _exceeded(self) -> bool:
        # Inspecting every descriptor is slow and would delay the others, so connections are counted only near the end.
        nearly = self._descriptors + NEARLY
        return descriptors(self._server) > nearly or connections(self._server) > self._connections


def _figures(plan: Plan, outcome: Outcome) -> list[Figure]:
    slower = outcome.beside / outcome.quiet
    return [
        Figure(f"{plan}: memory at the peak", "MiB", outcome.growth, GROWTH),
        Figure("  all stalled clients closed", "s", outcome.gone, CLOSED),
        Figure("  delay for the others, p99, with stalled clients", "ms", outcome.beside * 1e3),
        Figure("  ... without them", "ms", outcome.quiet * 1e3, note=f"{outcome.frames:,} frames"),
        Figure("  ... factor", "times", slower, SLOWER),
    ]

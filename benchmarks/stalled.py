"""Clients that never read what they are told, beside others that do: what that costs the server, and the others.

Three senders write to the user of those who stall, and one to the others, whose time is taken from the stamp in
the transaction to the frame at the tab. The same goes on before those who stall come, and once they are gone: a busy
server is what both have in common. ``tests/test_stalled.py`` is the short form.
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
from benchmarks.table import Figure
from benchmarks.tabs import HANDSHAKE, SubscriptionObserver
from benchmarks.world import Person, World

SENDERS = 4  # one of them to the others
RECEIVE_BUFFER = 1024  # bytes; the least that the kernel gives
LOOK_EVERY = 0.2  # seconds
NEARLY = 20  # descriptors
GONE_WITHIN = 90.0  # seconds; whoever is there after that stays
DESCRIPTORS = 1000

GROWTH, GONE, SLOWER = 20.0, 30.0, 2.0  # the goals: MiB, seconds, times


class Plan(NamedTuple):
    """How many stall, who is told beside them, and how many updates there are, without and with them."""

    stalled: int
    users: int
    tabs_each: int
    before: int
    updates: int

    def __str__(self) -> str:
        return f"{self.stalled} stalled readers, {self.updates:,} updates, {self.users * self.tabs_each} others"


class Outcome(NamedTuple):
    """MiB at the peak; seconds until the last that stalled is gone; p99 in seconds, without them and beside them."""

    growth: float
    gone: float
    quiet: float
    beside: float
    frames: int  # that the others were told: all that there were, or this would not end


PLAN = Plan(stalled=200, users=60, tabs_each=5, before=1_000, updates=10_000)


def run(world: World) -> list[Figure]:
    """With a new server."""
    with world.serving() as (server, _):
        return _figures(PLAN, asyncio.run(measured(server, world, PLAN)))


async def measured(server: Server, world: World, plan: Plan) -> Outcome:
    """Updates without, then with those who stall."""
    theirs, *others = world.subscribers[: plan.users + 1]
    cookies = [person.cookie for person in others for _ in range(plan.tabs_each)]
    async with AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(sender(server, each)) for each in world.senders[:SENDERS]]
        audience = Timed()
        await stack.enter_async_context(tabs.tabs(server, cookies, audience))
        for count in (plan.before // 4, plan.before):
            audience.delays.clear()
            await audience.until_told(plan.tabs_each * await _update(crowd, theirs, others, count))
        memory, alone, start = Memory(server), Alone(server), time.time()
        with stalled(server, theirs, plan.stalled):
            leaving = asyncio.create_task(alone.again())
            await audience.until_told(plan.tabs_each * await _update(crowd, theirs, others, plan.updates))
            end = await leaving
            quiet, beside = audience.slowest(start, end)
            return Outcome(memory.peak(), end - start, quiet, beside, len(audience.delays))


class Timed(SubscriptionObserver):
    """Notes when each frame came, and how long it took."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[tuple[float, float]] = []

    def hears(self, payload: bytes) -> None:
        super().hears(payload)
        if payload != tabs.HEARTBEAT:
            now = time.time()
            self.delays.append((now, now - json.loads(payload)[-1]["timestamp"]))

    def slowest(self, start: float, end: float) -> tuple[float, float]:
        """Seconds that 99 of 100 frames did not exceed: of those outside of that time, and of those within it."""
        within = [delay for moment, delay in self.delays if start <= moment <= end]
        outside = [delay for moment, delay in self.delays if not start <= moment <= end]
        return quantiles(outside, n=100)[-1], quantiles(within, n=100)[-1]


@contextmanager
def stalled(server: Server, person: Person, count: int) -> Iterator[None]:
    """So many tabs of ``person`` that have heard that they are accepted, and never read again."""
    request = HANDSHAKE.format(host=f"127.0.0.1:{server.port}", cookie=person.cookie).encode()
    with ExitStack() as stack:
        for _ in range(count):
            raw = stack.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            raw.settimeout(DEADLINE)
            raw.connect(("127.0.0.1", server.port))
            raw.sendall(request)
            assert raw.recv(12) == b"HTTP/1.1 101"
        yield


async def _update(crowd: Sequence[Sender], theirs: Person, others: Sequence[Person], count: int) -> int:
    """Update those who stall ``count`` times; how many updates of the others there were meanwhile."""
    someone, *rest = crowd
    over = asyncio.Event()
    telling = asyncio.create_task(_tell(someone, others, over))
    async with asyncio.TaskGroup() as group:
        for each in rest:
            group.create_task(_send(each, theirs, count // len(rest)))
    over.set()
    return await telling


async def _send(someone: Sender, theirs: Person, count: int) -> None:
    for _ in range(count):
        await someone.send(theirs.name)


async def _tell(someone: Sender, others: Sequence[Person], over: asyncio.Event) -> int:
    told = 0
    while not over.is_set():
        await someone.send(others[told % len(others)].name)
        told += 1
    return told


class Alone:
    """A server and how many connections it has; again so once those that come later are gone."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._descriptors = descriptors(server)
        self._connections = connections(server)

    async def again(self) -> float:
        """When it was."""
        give_up = time.time() + GONE_WITHIN
        while self._is_not() and time.time() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        return time.time()

    def _is_not(self) -> bool:
        # To look at hundreds of them takes its time, which would be taken for the others' delay.
        nearly = self._descriptors + NEARLY
        return descriptors(self._server) > nearly or connections(self._server) > self._connections


def _figures(plan: Plan, outcome: Outcome) -> list[Figure]:
    slower = outcome.beside / outcome.quiet
    return [
        Figure(f"{plan}: memory at the peak", "MiB", outcome.growth, GROWTH, note=_verdict(outcome.growth, GROWTH)),
        Figure("  the last of them gone", "s", outcome.gone, GONE, note=_verdict(outcome.gone, GONE)),
        Figure("  stamp to frame for the others, p99: while those are there", "ms", outcome.beside * 1e3),
        Figure("  ... without them", "ms", outcome.quiet * 1e3, note=f"{outcome.frames:,} frames"),
        Figure("  ... slower by", "times", slower, SLOWER, note=_verdict(slower, SLOWER)),
    ]


def _verdict(value: float, goal: float) -> str:
    return "passed" if value <= goal else "FAILED"

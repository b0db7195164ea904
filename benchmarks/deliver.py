"""What it costs the server to bring one event to one tab.

One event after the other, each once the former has reached every tab. The same sends without a tab come
first, and are taken off: what is left is the waking and the writing.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from tests.living import Server

from benchmarks import meter, tabs
from benchmarks.browser import Sender, sender
from benchmarks.meter import Used
from benchmarks.table import Figure
from benchmarks.tabs import Audience
from benchmarks.world import Person, World

TARGET = 35.0  # microseconds
TAIL = 0.2  # seconds for the server to finish what nobody waits for
NO_HEARTBEAT = "600"


class Plan(NamedTuple):
    """Who listens with how many tabs, and how many events each of them is told."""

    users: int
    tabs_each: int
    events_each: int

    @property
    def expected(self) -> int:
        """Notifications that must arrive."""
        return self.users * self.tabs_each * self.events_each

    def __str__(self) -> str:
        users = f"{self.users} users" if self.users > 1 else "one user"
        return f"{self.users * self.events_each:,} events to {self.users * self.tabs_each:,} tabs of {users}"


PLANS = (Plan(1, 2000, 50), Plan(100, 20, 10))
DESCRIPTORS = 2500


def run(world: World) -> list[Figure]:
    """One row a plan, each with a new server."""
    return [figure for plan in PLANS for figure in _run(world, plan)]


def _run(world: World, plan: Plan) -> list[Figure]:
    with world.serving(MICROBLOG_HEARTBEAT=NO_HEARTBEAT) as (server, pid):
        return asyncio.run(_measured(server, pid, plan, world))


async def _measured(server: Server, pid: int, plan: Plan, world: World) -> list[Figure]:
    listeners = world.listeners[: plan.users]
    cookies = [person.cookie for person in listeners for _ in range(plan.tabs_each)]
    async with sender(server, world.senders[0]) as someone:
        await _sent(someone, pid, listeners, plan.events_each)
        alone = await _sent(someone, pid, listeners, plan.events_each)
        async with tabs.tabs(server, cookies) as audience:
            await asyncio.sleep(TAIL)
            told = await _sent(someone, pid, listeners, plan.events_each, audience)
            return _figures(plan, alone, told, audience)


async def _sent(
    someone: Sender, pid: int, listeners: Sequence[Person], events_each: int, audience: Audience | None = None
) -> Used:
    watch, expected = meter.Stopwatch(pid), 0
    tabs_each = len(audience.tabs) // len(listeners) if audience else 0
    for _ in range(events_each):
        for person in listeners:
            await someone.send(person.name)
            expected += tabs_each
            if audience:
                await audience.until_told(expected)
    await asyncio.sleep(TAIL)
    return watch.used()


def _figures(plan: Plan, alone: Used, told: Used, audience: Audience) -> list[Figure]:
    each = 1e6 / audience.told
    note = f"delivered {audience.notices():,} of {plan.expected:,} in {audience.told:,} frames"
    return [
        Figure(
            f"CPU to deliver an event to a tab, {plan}; the sends' own taken off",
            "µs",
            (told.server - alone.server) * each,
            TARGET,
            (told.load - alone.load) * each,
            note,
        ),
        Figure("  the sends' own, measured with no tab", "µs", alone.server * each, load=alone.load * each),
    ]

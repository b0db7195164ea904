"""What it costs the server to bring one event to one tab.

One event after the other, each once the former has reached every tab. As many sends to people without a tab
are taken off: what is left is the waking and the writing. The two take turns, for a machine's speed changes.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from tests.server_process import Server

from benchmarks import meter, tabs
from benchmarks.browser import Sender, sender
from benchmarks.meter import NOTHING, Used
from benchmarks.table import Figure
from benchmarks.tabs import SubscriptionObserver
from benchmarks.world import Person, World

TARGET = 35.0  # microseconds
ROUNDS = 5
WARM_UP = 100  # sends
TAIL = 0.1  # seconds for the server to finish what nobody waits for
NO_HEARTBEAT = "600"


class Plan(NamedTuple):
    """Who listens with how many tabs, and how many events each of them is told in a round."""

    users: int
    tabs_each: int
    each_round: int

    @property
    def events(self) -> int:
        return self.users * self.each_round * ROUNDS

    @property
    def expected(self) -> int:
        """Notifications that must arrive."""
        return self.events * self.tabs_each

    def __str__(self) -> str:
        users = f"{self.users} users" if self.users > 1 else "one user"
        return f"{self.events:,} events to {self.users * self.tabs_each:,} tabs of {users}"


PLANS = (Plan(1, 2000, 10), Plan(100, 20, 1))
DESCRIPTORS = 2500


def run(world: World) -> list[Figure]:
    """One row a plan, each with a new server."""
    return [figure for plan in PLANS for figure in _run(world, plan)]


def _run(world: World, plan: Plan) -> list[Figure]:
    with world.serving(MICROBLOG_HEARTBEAT=NO_HEARTBEAT) as (server, pid):
        return asyncio.run(_measured(server, pid, plan, world))


async def _measured(server: Server, pid: int, plan: Plan, world: World) -> list[Figure]:
    subscribers, absent = world.subscribers[: plan.users], world.absent[: plan.users]
    cookies = [person.cookie for person in subscribers for _ in range(plan.tabs_each)]
    async with sender(server, world.senders[0]) as someone:
        await _sent(someone, pid, absent, WARM_UP // plan.users)
        async with tabs.tabs(server, cookies) as audience:
            told = alone = NOTHING
            for _ in range(ROUNDS):
                told += await _sent(someone, pid, subscribers, plan.each_round, audience)
                alone += await _sent(someone, pid, absent, plan.each_round)
            return _figures(plan, alone, told, audience)


async def _sent(
    someone: Sender, pid: int, people: Sequence[Person], each: int, audience: SubscriptionObserver | None = None
) -> Used:
    watch = meter.Stopwatch(pid)
    for _ in range(each):
        for person in people:
            await someone.send(person.name)
            if audience:
                await audience.until_told(len(audience.tabs) // len(people))
    await asyncio.sleep(TAIL)
    return watch.used()


def _figures(plan: Plan, alone: Used, told: Used, audience: SubscriptionObserver) -> list[Figure]:
    each = 1e6 / audience.told
    note = f"delivered {audience.notifications():,} of {plan.expected:,} in {audience.told:,} frames"
    return [
        Figure(
            f"CPU to deliver an event to a tab, {plan}; the sends' own taken off",
            "µs",
            (told.server - alone.server) * each,
            TARGET,
            (told.load - alone.load) * each,
            note,
        ),
        Figure(
            "  the same sends to people without a tab, a frame's share",
            "µs",
            alone.server * each,
            load=alone.load * each,
        ),
    ]

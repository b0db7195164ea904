"""The server's CPU for the delivery of one event to one tab.

Each event is sent after the previous one has reached every tab. The CPU of as many sends to users without a tab is
subtracted, which leaves the delivery. Both kinds of sends alternate, because the speed of a machine changes.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from tests.server_process import Server

from benchmarks import meter, tabs
from benchmarks.browser import Sender, sender
from benchmarks.meter import NOTHING, Used
from benchmarks.table import Figure
from benchmarks.tabs import FrameCounter
from benchmarks.world import Person, World

TARGET = 35.0  # microseconds
ROUNDS = 5
WARM_UP = 100  # sends
TAIL = 0.1  # seconds for the server to finish background work
NO_HEARTBEAT = "600"


class Plan(NamedTuple):
    """The number of users, of tabs each has, and of events each receives in a round."""

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
    """Measure each plan with a new server."""
    return [figure for plan in PLANS for figure in _run(world, plan)]


def _run(world: World, plan: Plan) -> list[Figure]:
    with world.serving(MICROBLOG_HEARTBEAT=NO_HEARTBEAT) as (server, pid):
        return asyncio.run(_measured(server, pid, plan, world))


async def _measured(server: Server, pid: int, plan: Plan, world: World) -> list[Figure]:
    subscribers, absent = world.subscribers[: plan.users], world.absent[: plan.users]
    cookies = [person.cookie for person in subscribers for _ in range(plan.tabs_each)]
    async with sender(server, world.senders[0]) as message_sender:
        await _sent(message_sender, pid, absent, WARM_UP // plan.users)
        async with tabs.tabs(server, cookies) as observer:
            delivered = alone = NOTHING
            for _ in range(ROUNDS):
                delivered += await _sent(message_sender, pid, subscribers, plan.each_round, observer)
                alone += await _sent(message_sender, pid, absent, plan.each_round)
            return _figures(plan, alone, delivered, observer)


async def _sent(
    message_sender: Sender, pid: int, people: Sequence[Person], each: int, observer: FrameCounter | None = None
) -> Used:
    watch = meter.Stopwatch(pid)
    for _ in range(each):
        for person in people:
            await message_sender.send(person.name)
            if observer:
                await observer.until_received(len(observer.tabs) // len(people))
    await asyncio.sleep(TAIL)
    return watch.used()


def _figures(plan: Plan, alone: Used, delivered: Used, observer: FrameCounter) -> list[Figure]:
    each = 1e6 / observer.received
    note = f"delivered {observer.notifications():,} of {plan.expected:,} in {observer.received:,} frames"
    return [
        Figure(
            f"CPU to deliver an event to a tab, {plan}; without the CPU of the sends",
            "µs",
            (delivered.server - alone.server) * each,
            TARGET,
            (delivered.load - alone.load) * each,
            note,
        ),
        Figure(
            "  the sends alone, per frame",
            "µs",
            alone.server * each,
            load=alone.load * each,
        ),
    ]

"""The server's CPU for the delivery of one event to one tab.

Each event is published after the previous one has reached every tab. In microblog-rt an event is a message sent by
form; the CPU of as many sends to users without a tab is subtracted, which leaves the delivery. Both kinds of sends
alternate, because the speed of a machine changes.

With one tab per user there are as many sends as deliveries, so that the difference is small against both: it needs
more events than the rest.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

from tests.server_process import Server

from benchmarks import meter, tabs
from benchmarks.browser import Sender, connected, sender
from benchmarks.meter import NOTHING, Used
from benchmarks.peers.push import Push, Running
from benchmarks.results import OURS, Figure
from benchmarks.tabs import FrameCounter
from benchmarks.world import Person, World

GOAL, GOAL_GROWTH, GOAL_USERS = 9.0, 1.1, 20.0  # µs, times, µs
ROUNDS, EACH = 5, 10  # events
BLOCK = 50
WARM_UP = 100  # events
TAIL = 0.1  # seconds for the server to finish background work
NO_HEARTBEAT = "600"

PLOT = "deliver"

Publish = Callable[[], Awaitable[None]]


def run(world: World, peers: list[Push]) -> list[Figure]:
    """Measure each number of tabs with a new server."""
    counts = world.sizes.deliver
    figures = _figures(OURS, {count: _ours(world, count) for count in counts}, counts[1])
    ours = [figure.value for figure in figures if figure.plot]
    for peer in peers:
        events = {
            count: ROUNDS * EACH if count == counts[1] else EACH for count in counts
        }  # the others are only plotted
        figures += _figures(peer.name, {count: _peer(peer, count, events[count]) for count in counts}, counts[1])
    for larger, value in zip(counts[2:], ours[2:], strict=True):
        label = f"  {larger:,} tabs against {counts[1]:,}"
        figures.append(Figure(label, "times", value / ours[1], GOAL_GROWTH))
    return [*figures, _many_users(world)]


def _figures(name: str, used: dict[int, Used], main: int) -> list[Figure]:
    label = f"CPU to deliver an event to a tab, {ROUNDS * EACH} events to {main:,} tabs"
    return [
        Figure(label, "µs", used[main].server, GOAL, used[main].load, subject=name),
        *[Figure("", "µs", each.server, subject=name, plot=(PLOT, float(count))) for count, each in used.items()],
    ]


def _ours(world: World, count: int) -> Used:
    """Microseconds per delivery."""
    with world.serving(MICROBLOG_HEARTBEAT=NO_HEARTBEAT) as (server, pid):
        return asyncio.run(_ours_measured(server, pid, world, count))


async def _ours_measured(server: Server, pid: int, world: World, count: int) -> Used:
    person = world.subscribers[0]
    async with sender(server.port, world.senders[0]) as message_sender:
        send, alone = _sending(message_sender, [person]), _sending(message_sender, world.absent)
        await _published(alone, pid, WARM_UP)
        async with tabs.tabs(server, [person.cookie] * count) as observer:
            used = NOTHING
            for _ in range(ROUNDS):
                used += await _published(send, pid, EACH, observer)
                used -= await _published(alone, pid, EACH)
            assert observer.notifications() == ROUNDS * EACH * count, "events are missing, or came twice"
            return _per_frame(used, observer)


def _sending(message_sender: Sender, people: Sequence[Person]) -> Publish:
    """Sends one message to each of ``people`` in turn."""
    turns = itertools.cycle(people)
    return lambda: message_sender.send(next(turns).name)


def _peer(peer: Push, count: int, events: int) -> Used:
    with peer.serving() as running:
        return asyncio.run(_peer_measured(running, count, events))


async def _peer_measured(running: Running, count: int, events: int) -> Used:
    with connected(running.port) as browser:
        for _ in range(WARM_UP):
            await running.publish(browser)
        async with tabs.tabs(running, [""] * count, FrameCounter(running.dialect)) as observer:
            for _ in range(EACH):
                await running.publish(browser)
                await observer.until_received(count)
            observer.restart()
            used = await _published(lambda: running.publish(browser), running.pid, events, observer)
            return _per_frame(used, observer)


async def _published(publish: Publish, pid: int, count: int, observer: FrameCounter | None = None) -> Used:
    """Publish events, each after all tabs have received the last."""
    watch = meter.Stopwatch(pid)
    for _ in range(count):
        await publish()
        if observer:
            await observer.until_received(len(observer.tabs))
    await asyncio.sleep(TAIL)
    return watch.used()


def _per_frame(used: Used, observer: FrameCounter) -> Used:
    each = 1e6 / observer.received
    return Used(used.server * each, used.load * each, used.wall * each)


def _many_users(world: World) -> Figure:
    """One event to each of many users with one tab."""
    with world.serving(MICROBLOG_HEARTBEAT=NO_HEARTBEAT) as (server, pid):
        used = asyncio.run(_many_users_measured(server, pid, world))
    count = world.sizes.single
    label = f"  {count:,} events, each to one of {count:,} tabs of {count:,} users"
    return Figure(label, "µs", used.server, GOAL_USERS, used.load)


async def _many_users_measured(server: Server, pid: int, world: World) -> Used:
    people = world.subscribers[: world.sizes.single]
    async with sender(server.port, world.senders[0]) as message_sender:
        await _published(_sending(message_sender, world.absent), pid, WARM_UP)
        async with tabs.tabs(server, [person.cookie for person in people]) as observer:
            send, alone = _sending(message_sender, people), _sending(message_sender, world.absent)
            used = NOTHING
            for _ in range(len(people) // BLOCK):
                used += await _published(send, pid, BLOCK)
                used -= await _published(alone, pid, BLOCK)
            await observer.until_received(len(people))
            return _per_frame(used, observer)

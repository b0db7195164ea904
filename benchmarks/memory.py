"""The memory of a server per idle tab, beside the peers, and as the number of tabs grows."""

import asyncio
import itertools
from collections.abc import Sequence

from benchmarks import meter, tabs
from benchmarks.meter import Memory, Used, descriptors
from benchmarks.peers.push import Push
from benchmarks.results import OURS, Figure
from benchmarks.tabs import Dialect, FrameCounter, Listening
from benchmarks.world import World

MANY = "memory of the server with {:,} idle tabs"
TOO_FEW = "not measured: the limit of descriptors allows {:,} tabs here"
GOAL, GOAL_GROWTH, GOAL_MANY = 4.0, 1.1, 250.0  # KiB, times, MiB
WARM_UP = 50
QUIET = 2.0  # seconds
HEARTBEAT = 20.0  # seconds: the setting's default

PLOT = "memory"


def run(world: World, peers: list[Push]) -> list[Figure]:
    """Open the tabs, and measure when they are idle."""
    cookies = [person.cookie for person in world.subscribers[:50]]
    steps = world.sizes.memory
    with world.serving() as (server, pid):
        figures = asyncio.run(_ours(server, pid, cookies, steps, world.sizes.heartbeat))
    for peer in peers:
        with peer.serving() as running:
            figures += asyncio.run(_peer(peer.name, running, running.pid, running.dialect, steps))
    return figures + _many(world, cookies) if world.sizes.many else figures


def _many(world: World, cookies: list[str]) -> list[Figure]:
    """More tabs than one address has ports for."""
    label, allowed = MANY.format(world.sizes.many), descriptors()
    if allowed < world.sizes.many:
        return [Figure(label, "MiB", 0, GOAL_MANY, note=TOO_FEW.format(allowed), subject="")]
    with world.serving() as (server, pid):
        total = asyncio.run(_opened(server, pid, list(itertools.islice(itertools.cycle(cookies), world.sizes.many))))
    return [Figure(label, "MiB", total, GOAL_MANY)]


async def _ours(server: Listening, pid: int, cookies: list[str], steps: Sequence[int], heartbeat: bool) -> list[Figure]:
    observer = FrameCounter()
    each, opened, start = await _grown(server, pid, cookies, steps, observer)
    first, last = steps[0], steps[-1]
    figures = [
        *_figures(OURS, each),
        Figure(
            f"  memory of a tab, {last:,} tabs against {first:,}",
            "times",
            (each[last].pss / last) / (each[first].pss / first),
            GOAL_GROWTH,
        ),
        Figure("  CPU to open a tab", "ms", opened.server / last * 1e3, load=opened.load / last * 1e3),
    ]
    if heartbeat:
        await asyncio.sleep(HEARTBEAT)
        assert observer.heartbeats >= last, "the tabs have received no heartbeat"
        after = (meter.memory(pid).pss - start.pss) / last
        figures.append(Figure(f"  memory of a tab after a heartbeat, {last:,} tabs", "KiB", after))
    observer.check()
    observer.close()
    return figures


async def _peer(name: str, server: Listening, pid: int, dialect: Dialect, steps: Sequence[int]) -> list[Figure]:
    observer = FrameCounter(dialect)
    each, _, _ = await _grown(server, pid, [""], steps, observer)
    observer.check()
    observer.close()
    return _figures(name, each)


async def _opened(server: Listening, pid: int, cookies: list[str]) -> float:
    """The memory in MiB of a server with a tab for each of ``cookies``."""
    async with tabs.tabs(server, cookies):
        await asyncio.sleep(QUIET)
        return meter.memory(pid).pss / 1024


async def _grown(
    server: Listening, pid: int, cookies: list[str], steps: Sequence[int], observer: FrameCounter
) -> tuple[dict[int, Memory], Used, Memory]:
    """The growth of the memory by the number of tabs; the CPU of opening them; the memory after a warm-up."""
    people = itertools.cycle(cookies)
    async with tabs.tabs(server, itertools.islice(people, WARM_UP), FrameCounter(observer.dialect)):
        pass
    await asyncio.sleep(QUIET)
    start, opening, grown = meter.memory(pid), meter.NOTHING, {}
    for count in steps:
        watch = meter.Stopwatch(pid)
        await tabs.open_tabs(server, itertools.islice(people, count - len(observer.tabs)), observer)
        opening += watch.used()
        await asyncio.sleep(QUIET)
        now = meter.memory(pid)
        grown[count] = Memory(now.pss - start.pss, now.uss - start.uss)
    return grown, opening, start


def _figures(name: str, each: dict[int, Memory]) -> list[Figure]:
    count = list(each)[1]
    size = each[count]
    return [
        Figure(f"memory of an idle tab, {count:,} tabs", "KiB", size.pss / count, GOAL, note="PSS", subject=name),
        Figure("  private to the process (USS)", "KiB", size.uss / count, subject=name),
        *[Figure("", "KiB", size.pss / at, subject=name, plot=(PLOT, float(at))) for at, size in each.items()],
    ]

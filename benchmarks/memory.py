"""The memory of a server per idle tab, beside the peers, and as the number of tabs grows."""

import asyncio
import itertools

from benchmarks import meter, tabs
from benchmarks.meter import SPARE, Memory, descriptors
from benchmarks.peers.push import Push
from benchmarks.results import OURS, Figure
from benchmarks.tabs import FrameCounter, Listening
from benchmarks.world import World

TABS = 5_000
STEPS = (1_000, 5_000, 15_000)  # numbers of tabs, for the growth
MANY = 50_000
GOAL, GOAL_GROWTH, GOAL_MANY = 4.0, 1.1, 250.0  # KiB, times, MiB
WARM_UP = 50
QUIET = 2.0  # seconds
HEARTBEAT = 20.0  # seconds: the setting's default

PLOT = "memory"


def run(world: World, peers: list[Push]) -> list[Figure]:
    """Open the tabs, and measure when they are idle."""
    cookies = [person.cookie for person in world.subscribers[:50]]
    with world.serving() as (server, pid):
        figures = asyncio.run(_ours(server, pid, cookies))
    for peer in peers:
        with peer.serving() as running:
            figures += asyncio.run(_peer(peer.name, running, running.pid, FrameCounter(running.dialect)))
    if descriptors() < MANY:
        label = f"memory of the server with {MANY:,} idle tabs"
        return [*figures, _not_measured(label, f"not measured: at most {descriptors() + SPARE:,} descriptors here")]
    with world.serving() as (server, pid):
        return figures + asyncio.run(_many(server, pid, cookies))


def _not_measured(label: str, note: str) -> Figure:
    return Figure(label, "MiB", 0, GOAL_MANY, note=note, subject="")


async def _ours(server: Listening, pid: int, cookies: list[str]) -> list[Figure]:
    observer = FrameCounter()
    sizes, opened = await _grown(server, pid, cookies, observer)
    await asyncio.sleep(HEARTBEAT)
    observer.check()
    assert observer.heartbeats >= STEPS[-1], "the tabs have received no heartbeat"
    after = (meter.memory(pid).pss - sizes[0].pss) / STEPS[-1]
    observer.close()
    each = _each(sizes)
    first, last = each[STEPS[0]], each[STEPS[-1]]
    return [
        Figure(_label(), "KiB", each[TABS].pss / TABS, GOAL, note="PSS"),
        *_plotted(OURS, each),
        Figure("  private to the process (USS)", "KiB", each[TABS].uss / TABS),
        Figure(
            f"  per tab, {STEPS[-1]:,} tabs against {STEPS[0]:,}",
            "times",
            (last.pss / STEPS[-1]) / (first.pss / STEPS[0]),
            GOAL_GROWTH,
        ),
        Figure(f"  after a heartbeat and its acknowledgement, {STEPS[-1]:,} tabs", "KiB", after),
        Figure("  CPU to open a tab", "ms", opened.server / STEPS[-1] * 1e3, load=opened.load / STEPS[-1] * 1e3),
    ]


async def _peer(name: str, server: Listening, pid: int, observer: FrameCounter) -> list[Figure]:
    sizes, _ = await _grown(server, pid, [""], observer)
    observer.close()
    each = _each(sizes)
    return [
        Figure(_label(), "KiB", each[TABS].pss / TABS, subject=name),
        *_plotted(name, each),
        Figure("  private to the process (USS)", "KiB", each[TABS].uss / TABS, subject=name),
    ]


async def _many(server: Listening, pid: int, cookies: list[str]) -> list[Figure]:
    observer = FrameCounter()
    await tabs.open_tabs(server, itertools.islice(itertools.cycle(cookies), MANY), observer)
    await asyncio.sleep(QUIET)
    total = meter.memory(pid).pss / 1024
    observer.close()
    return [Figure(f"memory of the server with {MANY:,} idle tabs", "MiB", total, GOAL_MANY)]


async def _grown(
    server: Listening, pid: int, cookies: list[str], observer: FrameCounter
) -> tuple[list[Memory], meter.Used]:
    """The memory after a warm-up, and with each number of tabs; the CPU of opening them."""
    people = itertools.cycle(cookies)
    async with tabs.tabs(server, itertools.islice(people, WARM_UP), FrameCounter(observer.dialect)):
        pass
    await asyncio.sleep(QUIET)
    sizes, opening = [meter.memory(pid)], meter.NOTHING
    for count in STEPS:
        watch = meter.Stopwatch(pid)
        await tabs.open_tabs(server, itertools.islice(people, count - len(observer.tabs)), observer)
        opening += watch.used()
        await asyncio.sleep(QUIET)
        sizes.append(meter.memory(pid))
    return sizes, opening


def _label() -> str:
    return f"memory of an idle tab, {TABS:,} tabs"


def _each(sizes: list[Memory]) -> dict[int, Memory]:
    """The growth by the number of tabs."""
    start, *grown = sizes
    return {count: Memory(size.pss - start.pss, size.uss - start.uss) for count, size in zip(STEPS, grown, strict=True)}


def _plotted(name: str, each: dict[int, Memory]) -> list[Figure]:
    return [
        Figure("", "KiB", size.pss / count, subject=name, plot=(PLOT, float(count))) for count, size in each.items()
    ]

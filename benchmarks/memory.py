"""The memory of the server per idle tab, and the CPU to open one."""

import asyncio

from tests.server_process import Server

from benchmarks import meter, tabs
from benchmarks.meter import Memory, Used
from benchmarks.table import Figure
from benchmarks.world import World

USERS, TABS_EACH = 50, 100
TABS = USERS * TABS_EACH
DESCRIPTORS = TABS + 500
TARGET = 40.0  # KiB
WARM_UP = 50
QUIET = 2.0  # seconds
HEARTBEAT = 20.0  # seconds: the setting's default

WHAT = f"idle tab, {TABS:,} tabs of {USERS} users"


def run(world: World) -> list[Figure]:
    """Open the tabs, and measure when they are idle and after each has acknowledged a heartbeat."""
    cookies = [person.cookie for person in world.subscribers[:USERS] for _ in range(TABS_EACH)]
    with world.serving() as (server, pid):
        return asyncio.run(_measured(server, pid, cookies))


async def _measured(server: Server, pid: int, cookies: list[str]) -> list[Figure]:
    async with tabs.tabs(server, cookies[:WARM_UP]):
        pass
    await asyncio.sleep(QUIET)
    before, opening = meter.memory(pid), meter.Stopwatch(pid)
    async with tabs.tabs(server, cookies) as observer:
        opened = opening.used()
        await asyncio.sleep(QUIET)
        idle = meter.memory(pid)
        await asyncio.sleep(HEARTBEAT)
        assert observer.heartbeats >= TABS
        return _figures(before, idle, meter.memory(pid), opened)


def _figures(before: Memory, idle: Memory, later: Memory, opened: Used) -> list[Figure]:
    growth = [(after - start) / TABS for after, start in zip(idle, before, strict=True)]
    return [
        Figure(f"memory of an {WHAT}", "KiB", growth[0], TARGET, note="RSS"),
        Figure("  proportional share (PSS)", "KiB", growth[1]),
        Figure("  private to the process (USS)", "KiB", growth[2]),
        Figure("  after a heartbeat and its acknowledgement", "KiB", (later.rss - before.rss) / TABS, note="RSS"),
        Figure("  CPU to open it", "ms", opened.server / TABS * 1e3, load=opened.load / TABS * 1e3),
    ]

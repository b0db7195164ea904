"""SIGTERM with a thousand open tabs: close codes, and how evenly tabs disconnect and reconnect."""

import asyncio
import time
from collections import Counter

from tests.reconnecting_clients import ReconnectingClient, all_connected, most_at_once, returners
from tests.server_process import Server

from benchmarks.results import Figure
from benchmarks.world import World

USERS, TABS_EACH = 100, 10
DRAIN = 10.0  # seconds: the setting's default
WINDOW = 1.0


def run(world: World) -> list[Figure]:
    """Stop the server, start it again, and wait until every tab is connected."""
    with world.serving(MICROBLOG_DRAIN=str(DRAIN)) as (server, _):
        cookies = [person.cookie for person in world.subscribers[:USERS] for _ in range(TABS_EACH)]
        return asyncio.run(_measured(server, cookies))


async def _measured(server: Server, cookies: list[str]) -> list[Figure]:
    async with returners(server.url, cookies) as tabs:
        start = time.monotonic()
        status = await asyncio.to_thread(server.stop)
        stopped = time.monotonic()
        await asyncio.to_thread(server.start)
        await all_connected(tabs, 2)
        return _figures(tabs, start, stopped, status)


def _figures(tabs: list[ReconnectingClient], start: float, stopped: float, status: int) -> list[Figure]:
    codes = Counter(tab.codes[0] for tab in tabs)
    left, back = [tab.left[0] for tab in tabs], [tab.there[1] for tab in tabs]
    label = f"SIGTERM with {len(tabs):,} tabs"
    return [
        Figure(f"{label}: exit status", "", status, 0, note=f"close codes {dict(codes)}"),
        Figure("  closed with another code than 1012", "tabs", sum(codes.values()) - codes[1012], 0),
        Figure("  from the signal to the exit", "s", stopped - start),
        Figure(
            f"  disconnected within {WINDOW:g} s, at most", "tabs", most_at_once(left, WINDOW), len(tabs) / DRAIN * 1.5
        ),
        Figure(
            f"  reconnected within {WINDOW:g} s, at most", "tabs", most_at_once(back, WINDOW), len(tabs) / DRAIN * 2
        ),
        Figure(
            "  disconnected for, at most", "s", max(after - before for before, after in zip(left, back, strict=True))
        ),
        Figure("  all reconnected after the signal", "s", max(back) - start),
    ]

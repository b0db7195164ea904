"""A gap with many tabs and nothing new: its queries, and how long a page waits meanwhile.

The server is on PostgreSQL. To cause a gap, the connection on which its bus listens is terminated; PostgreSQL counts
the queries (pg_stat_statements). The first gap counts them, and a second one measures the delay of pages.
"""

import asyncio
import time
from typing import Any

import asyncpg
from tests.server_process import Server

from benchmarks import tabs
from benchmarks.browser import connected
from benchmarks.results import Figure
from benchmarks.world import Person, World, on_postgresql

TABS_EACH = 10
GOAL_QUERIES, GOAL_WAIT = 3, 50.0  # queries, ms
IDLE = 3.0  # seconds without a query after which a gap is over
PATIENCE = 120.0
PAUSE = 0.005  # seconds between two pages
# Without these, the sweep and heartbeats would add queries and frames.
QUIET = {"MICROBLOG_SWEEP": "3600", "MICROBLOG_HEARTBEAT": "600"}
COUNTING = ("-c", "shared_preload_libraries=pg_stat_statements")

TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'microblog-rt bus'"
QUERIES = "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_statements WHERE query LIKE '%mailbox%'"


def run(world: World) -> list[Figure]:
    """Measure with a server on PostgreSQL."""
    with on_postgresql(world.sizes, *COUNTING) as there, there.serving(**QUIET) as (server, _):
        return asyncio.run(_measured(server, server.environ["MICROBLOG_DATABASE_URL"], there))


async def _measured(server: Server, url: str, world: World) -> list[Figure]:
    people = world.subscribers[: world.sizes.gap]
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute("CREATE EXTENSION pg_stat_statements")
        async with tabs.tabs(server, [each.cookie for each in people] * TABS_EACH) as observer:
            queries, seconds = await _gap(connection)
            usual = max(await _views(server, people[0], asyncio.sleep(IDLE)))
            longest = max(await _views(server, people[0], _cut(connection, seconds + IDLE)))
            assert observer.received == 0, "a tab has received something"
    finally:
        await connection.close()
    label = f"a gap with {len(people) * TABS_EACH:,} tabs of {len(people):,} users, nothing new: queries"
    note = f"{usual * 1e3:.0f} ms without a gap"
    return [
        Figure(label, "", queries, GOAL_QUERIES),
        Figure("  from the loss of the bus to the last query", "s", seconds),
        Figure("  longest wait for a page meanwhile", "ms", longest * 1e3, GOAL_WAIT, note=note),
    ]


async def _gap(connection: Any) -> tuple[int, float]:
    """Cause a gap; the number of queries, and the seconds until the last."""
    before = count = await connection.fetchval(QUERIES)
    start = last = time.perf_counter()
    await _cut(connection)
    async with asyncio.timeout(PATIENCE):
        while count == before or time.perf_counter() < last + IDLE:
            await asyncio.sleep(IDLE / 50)
            now = await connection.fetchval(QUERIES)
            if now != count:
                count, last = now, time.perf_counter()
    return count - before, last - start


async def _cut(connection: Any, seconds: float = 0) -> None:
    """Terminate the connection of the bus, and wait."""
    assert await connection.fetch(TERMINATE), "the bus is not connected"
    await asyncio.sleep(seconds)


async def _views(server: Server, person: Person, meanwhile: Any) -> list[float]:
    """View the inbox again and again until ``meanwhile`` is over; the duration of each view."""
    delays: list[float] = []
    working = asyncio.ensure_future(meanwhile)
    with connected(server.port) as browser:
        while not working.done():
            start = time.perf_counter()
            answer = await browser.get("/messages", person.cookie)
            delays.append(time.perf_counter() - start)
            assert answer.status == 200, answer
            await asyncio.sleep(PAUSE)
    await working
    return delays

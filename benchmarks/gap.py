"""A gap in one process: its queries, its duration, and the delay of other reads. No sockets; SQLite.

A gap is measured twice: with every tab current, and after each user has missed a signal.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import event

from benchmarks.results import Figure
from benchmarks.world import PREFIX, World
from microblog_rt.accounts import Reader
from microblog_rt.accounts.sessions import token_hash
from microblog_rt.bus import Gap
from microblog_rt.bus.memory import MemoryBus
from microblog_rt.models import User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import Transaction, accounts, mailboxes, migrations

TABS_EACH = 10
IDLE = 0.3  # seconds without a query after which the gap is over
PATIENCE = 300.0  # seconds
NO_HEARTBEAT = 3600.0
GOAL_QUERIES, GOAL_WAIT = 3, 50.0  # queries, ms; with every tab current
CURRENT, BEHIND = "every tab current", "every tab behind"


def run(world: World) -> list[Figure]:
    """Measure with a database of its own."""
    with TemporaryDirectory(prefix=PREFIX) as folder:
        url = f"sqlite+aiosqlite:///{folder}/microblog.db"
        migrations.upgrade(url)
        return asyncio.run(_measured(Settings(database_url=url, bus_url="memory://"), world.sizes.gap))


class GapBus(MemoryBus):
    """Yields one gap per ``report_gap``."""

    def __init__(self) -> None:
        super().__init__()
        self._gaps: asyncio.Queue[Gap] = asyncio.Queue()

    def report_gap(self) -> None:
        self._gaps.put_nowait(Gap())

    async def events(self) -> AsyncGenerator[Gap]:
        while True:
            yield await self._gaps.get()


class FeedQueries:
    """Counts the read queries, those of the inbox excepted, and remembers the time of the last."""

    def __init__(self, services: Services) -> None:
        self.count, self.last = 0, time.perf_counter()
        event.listen(services.storage.engines[0], "after_cursor_execute", self._executed)

    def _executed(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "message.body" not in statement:
            self.count += 1
            self.last = time.perf_counter()

    def idle(self) -> bool:
        """Whether there was a query, and none for ``IDLE`` seconds."""
        return self.count > 0 and time.perf_counter() > self.last + IDLE


async def _measured(settings: Settings, users: int) -> list[Figure]:
    services, bus = assemble(settings), GapBus()
    try:
        readers = await services.storage.write(lambda tx: [_added(tx, services, number) for number in range(users)])
        async with _running(services, bus, readers):
            current = await _gap(services, bus, readers, CURRENT)
            await services.storage.write(lambda tx: [mailboxes.tick(tx, each.user_id) for each in readers])
            behind = await _gap(services, bus, readers, BEHIND)
            return current + behind
    finally:
        await services.close()


def _added(tx: Transaction, services: Services, number: int) -> Reader:
    user = User(username=f"user{number}", username_key=f"user{number}", email=None, password_hash="")
    accounts.add(tx, user)
    services.sessions.insert(tx, user.id, f"token{number}", remembered=True, device="")
    return Reader(user.id, token_hash(f"token{number}"))


@asynccontextmanager
async def _running(services: Services, bus: GapBus, readers: list[Reader]) -> AsyncIterator[None]:
    """All tabs open and past their first pages, and the feed receiving from ``bus``."""
    opened: asyncio.Queue[None] = asyncio.Queue()
    tasks = [asyncio.create_task(_tab(services, each, opened)) for each in readers for _ in range(TABS_EACH)]
    tasks.append(asyncio.create_task(services.feed.receive(bus)))
    try:
        async with asyncio.timeout(PATIENCE):
            for _ in range(len(readers) * TABS_EACH):
                await opened.get()
        yield
        assert not any(task.done() for task in tasks), "a tab or the feed has ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tab(services: Services, reader: Reader, opened: asyncio.Queue[None]) -> None:
    async with aclosing(services.feed.follow(reader, 0, heartbeat=NO_HEARTBEAT)) as pages:
        await anext(pages)
        opened.put_nowait(None)
        async for _ in pages:
            pass


async def _gap(services: Services, bus: GapBus, readers: list[Reader], condition: str) -> list[Figure]:
    waits: list[float] = []
    inbox = asyncio.create_task(_read_inbox(services, readers[0].user_id, waits))
    await asyncio.sleep(IDLE)
    usual = max(waits)
    waits.clear()
    async with services.storage.reading() as reading:
        clocks = await mailboxes.clocks(reading, [each.user_id for each in readers])
    queries, start = FeedQueries(services), time.perf_counter()
    bus.report_gap()
    async with asyncio.timeout(PATIENCE):
        while services.hub.positions() != clocks or not queries.idle():  # noqa: ASYNC110
            await asyncio.sleep(IDLE / 10)
    inbox.cancel()
    await asyncio.wait({inbox})
    goals = (GOAL_QUERIES, GOAL_WAIT) if condition == CURRENT else (None, None)
    return [
        Figure(
            f"a gap with {len(readers) * TABS_EACH:,} tabs of {len(readers):,} users, {condition}",
            "queries",
            queries.count,
            goals[0],
        ),
        Figure(f"  until the last query, {condition}", "s", queries.last - start),
        Figure(
            f"  longest wait for an inbox page meanwhile, {condition}",
            "ms",
            max(waits) * 1e3,
            goals[1],
            note=f"before the gap {usual * 1e3:.1f} ms",
        ),
    ]


async def _read_inbox(services: Services, user_id: int, waits: list[float]) -> None:
    """Read one page of the inbox after another, and append how long each took."""
    while True:
        start = time.perf_counter()
        await services.messages.inbox(user_id, 20)
        waits.append(time.perf_counter() - start)
        await asyncio.sleep(0.005)

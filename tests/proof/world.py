"""A world to break: PostgreSQL, Redis, two hosts of which one's clock is 300 s ahead, people, and their tabs.

``settle`` heals nothing by itself: whoever broke something has healed it. It sees what goes on to its end, waits
until every tab is right, and checks. Not here: the faults (``faults.py``) and what is checked (``checks.py``).
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg

from microblog_rt import files
from microblog_rt.app import create_app
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations
from tests.proof import checks, people
from tests.proof.host import AHEAD, Host
from tests.proof.http import Connection
from tests.proof.ledger import Ledger
from tests.proof.tabs import HEARTBEAT, MARK, LongPoll, Poll, Socket, Tab
from tests.proof.tcp_proxy import Line
from tests.proof.workload import Doing
from tests.services import OPTIONS, PostgreSQL, Redis
from tests.timing import awake

KEY = "a key for the proof alone, long enough"
DRAIN = 2.0  # seconds
TO_THE_END = 60.0  # seconds until every message that was begun is acknowledged
OPEN_WITHIN = 60.0
RIGHT_WITHIN = 20.0  # seconds that are waited at most; what took longer than promised is wrong all the same
SOON, SWEPT, POLLED = 1.0, 6.0, 6.0  # seconds from quiet to right: bus well, bus was down, by a poll


class Settled(NamedTuple):
    """How many tabs were right, how long it took those that stream and those that poll, and what is wrong."""

    tabs: int
    right: int
    streamed: float
    polled: float
    wrong: list[str]


class World:
    """All of it, running."""

    def __init__(
        self,
        database: PostgreSQL,
        redis: Redis,
        hosts: list[Host],
        lines: list[Line],
        url: str,
        seed: int,
        ledger: Ledger,
    ) -> None:
        self.database = database
        self.redis = redis
        self.hosts = hosts
        self.lines = lines
        self.dice = random.Random(seed)  # for what is broken; what people do has its own
        self.ledger = ledger
        self.tabs: list[Tab] = []
        self.doing: Doing
        self._url = url.replace("+asyncpg", "")

    async def settle(self, within: float) -> Settled:
        """With all faults healed: wait for the end of what was begun and for every tab to be right; check it all."""
        await self.doing.finish(TO_THE_END)
        quiet = self.ledger.now()
        database = await asyncpg.connect(self._url)
        try:
            truth = await checks.read(database)
            await self._all_right(truth)
            right = [tab for tab in self.tabs if tab.shows(truth.counts[tab.person.id])]
            took = {tab: self._took(tab, quiet) for tab in right}
            streamed = max((took[tab] for tab in right if tab.kind != Poll.kind), default=0.0)
            polled = max((took[tab] for tab in right if tab.kind == Poll.kind), default=0.0)
            wrong = await self._wrong(truth, streamed, polled, within)
        finally:
            await database.close()
        return Settled(len(self.tabs), len(right), streamed, polled, wrong)

    async def open_all(self) -> None:
        """Return once every tab is connected."""
        if not await self.ledger.until(lambda: all(tab.there is not None for tab in self.tabs), OPEN_WITHIN):
            away = [tab.kind for tab in self.tabs if tab.there is None]
            raise AssertionError(f"{len(away)} tabs are not there: {set(away)}, {self.ledger.answers}")

    async def database_answers(self) -> bool:
        """Whether the database takes a connection just now."""
        try:
            database = await asyncpg.connect(self._url, timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await database.close()
        return True

    async def _all_right(self, truth: checks.Truth) -> None:
        await self.ledger.until(lambda: all(tab.shows(truth.counts[tab.person.id]) for tab in self.tabs), RIGHT_WITHIN)

    def _took(self, tab: Tab, quiet: float) -> float:
        assert tab.there is not None
        return max(0.0, tab.changed - max(quiet, tab.there))

    async def _wrong(self, truth: checks.Truth, streamed: float, polled: float, within: float) -> list[str]:
        wrong, self.ledger.wrong = self.ledger.wrong, []
        wrong += checks.tabs(self.tabs, truth)
        wrong += checks.all_but_tabs(self.ledger, truth)
        wrong += await checks.old_cursors(self.hosts, self.doing, truth)
        if streamed > within:
            wrong.append(f"I1: a tab was right after {streamed:.2f} s only, not {within} s")
        if polled > POLLED:
            wrong.append(f"I1: a poller was right after {polled:.2f} s only, not {POLLED} s")
        for host in self.hosts:
            wrong += [f"I7: {host.name} logged {each}" for each in host.complaints()[:5]]
        return wrong


@asynccontextmanager
async def world(folder: Path, tabs: int, seed: int, python_path: Path = files.CHECKOUT / "src") -> AsyncIterator[World]:
    """A world with so many tabs (of three kinds, half on each host), all open; hosts run what is in ``python_path``."""
    async with AsyncExitStack() as stack:
        database = stack.enter_context(await asyncio.to_thread(PostgreSQL))
        redis = stack.enter_context(Redis(folder, *OPTIONS))
        url = database.database()
        await asyncio.to_thread(migrations.upgrade, url)
        lines = [await stack.enter_async_context(Line(redis.port)) for _ in range(2)]
        hosts = [_host(number, folder, url, lines[number], python_path) for number in range(2)]
        for host in hosts:
            stack.callback(host.close)
        await asyncio.gather(*[asyncio.to_thread(host.start) for host in hosts])
        assert await _ahead(hosts[1]) - await _ahead(hosts[0]) > AHEAD - 10, "the clocks are not apart"
        ledger = Ledger(await stack.enter_async_context(awake()))
        here = World(database, redis, hosts, lines, url, seed, ledger)
        await _people(stack, here, url, tabs)
        yield here


def _host(number: int, folder: Path, url: str, line: Line, python_path: Path) -> Host:
    environ = {
        "MICROBLOG_DATABASE_URL": url,
        "MICROBLOG_BUS_URL": line.url,
        "MICROBLOG_SECRET_KEY": KEY,
        "MICROBLOG_DRAIN": f"{DRAIN}",
        "MICROBLOG_HEARTBEAT": f"{HEARTBEAT}",
    }
    return Host("AB"[number], folder, environ, python_path, ahead=number == 1)


async def _ahead(host: Host) -> float:
    connection = Connection(host.port)
    answer = await connection.ask("GET", "/healthz", {}, seconds=5)
    connection.drop()
    return parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()


async def _people(stack: AsyncExitStack, here: World, url: str, tabs: int) -> None:
    # What tells marks is a third host, so to speak, whose line to Redis is never broken.
    app = create_app(replace(Settings(), database_url=url, secret_key=KEY, bus_url=here.redis.url))
    services: Services = app.extensions["services"]
    stack.push_async_callback(services.close)
    everybody = await people.make(app, tabs * 2 // 5)
    for person in everybody:
        await services.notifications.add_notification(person.id, MARK, {"of": person.id})
    here.tabs = [_tab(number, tabs, everybody, here) for number in range(tabs)]
    here.doing = Doing(everybody, here.hosts, here.tabs, here.ledger, services)
    stack.push_async_callback(_end, [asyncio.create_task(tab.stay()) for tab in here.tabs])
    await here.open_all()


def _tab(number: int, tabs: int, everybody: list[people.Person], here: World) -> Tab:
    kind = Socket if number < tabs * 3 // 5 else LongPoll if number < tabs * 4 // 5 else Poll
    home = (number + number // len(everybody)) % 2
    return kind(everybody[number % len(everybody)], [here.hosts[home], here.hosts[1 - home]], here.ledger)


async def _end(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

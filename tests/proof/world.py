"""The test set-up: PostgreSQL, Redis, two hosts (the clock of one is 300 s ahead), users, and their tabs.

``settle`` is called after all faults are repaired. It ends the workload, waits until every tab is correct, and checks
the invariants. See also: ``faults.py`` and ``checks.py``.
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
from tests import site_tokens
from tests.http_connection import Connection
from tests.proof import checks, people
from tests.proof.host import AHEAD, Host
from tests.proof.ledger import Ledger
from tests.proof.tabs import HEARTBEAT, MARK, ClientTab, LongPoll, Poll, Socket, Tab
from tests.proof.tcp_proxy import TcpProxy
from tests.proof.workload import Workload
from tests.services import OPTIONS, PostgreSQL, Redis
from tests.timing import awake

KEY = "a-key-for-the-proof-alone-long-enough"
DRAIN = 2.0  # seconds
FINISH_WITHIN = 60.0  # seconds until every message is acknowledged
OPEN_WITHIN = 60.0
CORRECT_WITHIN = 20.0  # seconds to wait for the tabs; the limits below are checked afterwards
SOON, SWEPT, POLLED = 1.0, 6.0, 6.0  # seconds until correct: after database faults, after bus faults, by a poll
FOLLOWED = 7.0  # seconds until a Python client is correct, which may poll: every 5 s, and up to 20 % later


class Settled(NamedTuple):
    """The number of tabs, how many are correct, seconds until those of each kind were, and the violations."""

    tabs: int
    correct: int
    streamed: float
    polled: float
    followed: float
    wrong: list[str]


class World:
    """The running set-up."""

    def __init__(
        self,
        database: PostgreSQL,
        redis: Redis,
        hosts: list[Host],
        proxies: list[TcpProxy],
        url: str,
        seed: int,
        ledger: Ledger,
    ) -> None:
        self.database = database
        self.redis = redis
        self.hosts = hosts
        self.proxies = proxies
        self.dice = random.Random(seed)  # for the faults; the workload has its own
        self.ledger = ledger
        self.tabs: list[Tab] = []
        self.workload: Workload
        self._url = url.replace("+asyncpg", "")

    async def settle(self, within: float) -> Settled:
        """End the workload, wait until every tab is correct, and check the invariants."""
        await self.workload.finish(FINISH_WITHIN)
        quiet = self.ledger.now()
        database = await asyncpg.connect(self._url)
        try:
            truth = await checks.read(database)
            await self._until_correct(truth)
            correct = [tab for tab in self.tabs if tab.shows(truth.counts[tab.person.id])]
            streamed = self._slowest([tab for tab in correct if tab.streams], quiet)
            polled = self._slowest([tab for tab in correct if tab.kind == Poll.kind], quiet)
            followed = self._slowest([tab for tab in correct if tab.kind == ClientTab.kind], quiet)
            wrong = await self._wrong(truth)
            for kind, took, limit in (
                ("stream", streamed, within),
                ("poll", polled, POLLED),
                ("client", followed, FOLLOWED),
            ):
                if took > limit:
                    wrong.append(f"I1: a {kind} was correct only after {took:.2f} s, not {limit} s")
        finally:
            await database.close()
        return Settled(len(self.tabs), len(correct), streamed, polled, followed, wrong)

    async def open_all(self) -> None:
        """Return once every tab is connected."""
        if not await self.ledger.until(lambda: all(tab.connected_at is not None for tab in self.tabs), OPEN_WITHIN):
            missing = [tab.kind for tab in self.tabs if tab.connected_at is None]
            raise AssertionError(f"{len(missing)} tabs are not connected: {set(missing)}, {self.ledger.answers}")

    async def database_answers(self) -> bool:
        """Whether the database accepts a connection now."""
        try:
            database = await asyncpg.connect(self._url, timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await database.close()
        return True

    async def _until_correct(self, truth: checks.Truth) -> None:
        counts = truth.counts
        await self.ledger.until(lambda: all(tab.shows(counts[tab.person.id]) for tab in self.tabs), CORRECT_WITHIN)

    def _slowest(self, tabs: list[Tab], quiet: float) -> float:
        """Seconds that the slowest of ``tabs`` needed, from ``quiet`` on or from its connection on."""
        return max([0.0, *(tab.changed - max(quiet, tab.connected_at or 0.0) for tab in tabs)])

    async def _wrong(self, truth: checks.Truth) -> list[str]:
        wrong, self.ledger.wrong = self.ledger.wrong, []
        wrong += checks.tabs(self.tabs, truth)
        wrong += checks.all_but_tabs(self.ledger, truth)
        wrong += await checks.old_cursors(self.hosts, self.workload, truth)
        for host in self.hosts:
            wrong += [f"I7: {host.name} logged {each}" for each in host.new_errors()[:5]]
        return wrong


@asynccontextmanager
async def world(folder: Path, tabs: int, seed: int, python_path: Path = files.CHECKOUT / "src") -> AsyncIterator[World]:
    """A world with ``tabs`` open tabs of four kinds, half on each host; the hosts run the build in ``python_path``."""
    async with AsyncExitStack() as stack:
        database = stack.enter_context(await asyncio.to_thread(PostgreSQL))
        redis = stack.enter_context(Redis(folder, *OPTIONS))
        url = database.database()
        await asyncio.to_thread(migrations.upgrade, url)
        proxies = [await stack.enter_async_context(TcpProxy(redis.port)) for _ in range(2)]
        hosts = [_host(number, folder, url, proxies[number], python_path) for number in range(2)]
        for host in hosts:
            stack.callback(host.close)
        await asyncio.gather(*[asyncio.to_thread(host.start) for host in hosts])
        assert await _ahead(hosts[1]) - await _ahead(hosts[0]) > AHEAD - 10, "the clocks do not differ"
        ledger = Ledger(await stack.enter_async_context(awake()))
        running = World(database, redis, hosts, proxies, url, seed, ledger)
        await _people(stack, running, url, tabs)
        yield running


def _host(number: int, folder: Path, url: str, proxy: TcpProxy, python_path: Path) -> Host:
    environ = {
        "MICROBLOG_DATABASE_URL": url,
        "MICROBLOG_BUS_URL": proxy.url,
        "MICROBLOG_SECRET_KEY": KEY,
        "MICROBLOG_JWT_KEY": site_tokens.SECRET,
        "MICROBLOG_DRAIN": f"{DRAIN}",
        "MICROBLOG_HEARTBEAT": f"{HEARTBEAT}",
    }
    return Host("AB"[number], folder, environ, python_path, ahead=number == 1)


async def _ahead(host: Host) -> float:
    connection = Connection(host.port)
    answer = await connection.request("GET", "/healthz", {}, seconds=5)
    connection.drop()
    return parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()


async def _people(stack: AsyncExitStack, running: World, url: str, tabs: int) -> None:
    # This process adds the marks. Its own connection to Redis has no proxy, so no fault affects it.
    app = create_app(replace(Settings(), database_url=url, secret_key=KEY, bus_url=running.redis.url))
    services: Services = app.extensions["services"]
    stack.push_async_callback(services.close)
    users = await people.make(app, tabs * 2 // 5)
    for person in users:
        await services.notifications.add_notification(person.id, MARK, {"of": person.id})
    running.tabs = [_tab(number, tabs, users, running) for number in range(tabs)]
    running.workload = Workload(users, running.hosts, running.tabs, running.ledger, services)
    stack.push_async_callback(_cancel, [asyncio.create_task(tab.run()) for tab in running.tabs])
    await running.open_all()


def _tab(number: int, tabs: int, users: list[people.Person], running: World) -> Tab:
    kinds = [ClientTab, *[Socket] * 5, *[LongPoll] * 2, *[Poll] * 2]
    kind = kinds[number * len(kinds) // tabs]
    home = (number + number // len(users)) % 2
    return kind(users[number % len(users)], [running.hosts[home], running.hosts[1 - home]], running.ledger)


async def _cancel(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Limits on open tabs per user and per address: exact, over WebSockets and long polls together.

Against a real server process.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from tests.http_client import Person, websocket
from tests.server_process import DEADLINE, Server

LIMIT = 4
# Held: there is no notification of that name.
HELD = "/notifications?name=nothing&wait=25"

LIMITS = ("TABS_PER_USER", "TABS_PER_ADDRESS", "REGISTER_LIMIT", "SIGN_IN_LIMIT")
numbers = itertools.count(1)


@contextmanager
def serving(folder: Path, **counted: str) -> Iterator[Server]:
    chosen = dict.fromkeys(LIMITS, "") | {"TRUSTED_HOPS": "1"} | counted
    with Server(folder, environ={f"MICROBLOG_{name}": value for name, value in chosen.items()}) as server:
        yield server
    # The tests sign in without a proxy, and also as if there were two.
    assert [line for line in server.logged().splitlines() if "addresses than MICROBLOG_TRUSTED_HOPS" not in line] == []


@pytest.fixture(scope="module")
def per_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("user"), TABS_PER_USER=str(LIMIT)) as server:
        yield server


@pytest.fixture(scope="module")
def per_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("address"), TABS_PER_ADDRESS=str(LIMIT)) as server:
        yield server


class Tabs:
    """The tabs of one user at one address; all closed at the end."""

    def __init__(self, person: Person, client: httpx.AsyncClient, address: str) -> None:
        self._url = person.server.url
        self._client = client
        self._headers = {"X-Forwarded-For": address, "Cookie": person.cookie()}
        self.open: list[ClientConnection] = []
        self.held: list[asyncio.Task[httpx.Response]] = []

    async def websocket(self) -> httpx.Response | None:
        """Open one; the response if it is refused."""
        cookie, address = self._headers["Cookie"], {"X-Forwarded-For": self._headers["X-Forwarded-For"]}
        try:
            tab = await websocket(self._url, cookie, HELD, address)
        except InvalidStatus as refusal:
            response = refusal.response
            return httpx.Response(
                response.status_code, headers=list(response.headers.raw_items()), content=bytes(response.body)
            )
        self.open.append(tab)
        await tab.recv()
        return None

    async def poll(self, target: str = HELD) -> httpx.Response:
        return await self._client.get(target, headers=self._headers)

    def hold(self) -> asyncio.Task[httpx.Response]:
        """Start a long poll."""
        self.held.append(asyncio.create_task(self.poll()))
        return self.held[-1]

    async def fill(self) -> None:
        """Open as many as the limit allows, one after the other."""
        for _ in range(LIMIT):
            assert await self.websocket() is None

    async def open_when_free(self) -> None:
        """Open one, once the server has noticed what was just closed."""
        async with asyncio.timeout(DEADLINE):
            while refusal := await self.websocket():
                assert refusal.status_code == 429

    async def close(self) -> None:
        for tab in self.open:
            await tab.close()
        for task in self.held:
            task.cancel()
        await asyncio.gather(*self.held, return_exceptions=True)
        self.open, self.held = [], []


@asynccontextmanager
async def open_tabs(server: Server, address: str = "") -> AsyncIterator[Tabs]:
    """A new user at an address of their own, unaffected by tabs closed just before."""
    number = next(numbers)
    person = await asyncio.to_thread(newcomer, server, f"user{number}")
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE, limits=limits) as client:
        tabs = Tabs(person, client, address or f"192.0.2.{number}")
        try:
            yield tabs
        finally:
            await tabs.close()
            person.close()


def newcomer(server: Server, name: str) -> Person:
    person = server.person("alice")
    answer = person.post("/auth/register", username=name, password=server.password, password2=server.password)
    assert answer.status_code == httpx.codes.SEE_OTHER, answer.text
    return person


def is_too_many(answer: httpx.Response | None) -> bool:
    assert answer is not None
    problem = json.loads(answer.content)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert (problem["status"], problem["code"]) == (429, "too_many")
    return answer.status_code == 429


async def test_tab_over_limit_is_refused_on_both_transports(per_user: Server) -> None:
    async with open_tabs(per_user) as alice, open_tabs(per_user) as bob:
        await alice.fill()
        assert is_too_many(await alice.websocket())
        assert is_too_many(await alice.poll())
        assert await bob.websocket() is None


async def test_plain_poll_does_not_count_as_tab(per_user: Server) -> None:
    """Pages fall back to it."""
    async with open_tabs(per_user) as alice:
        await alice.fill()
        for query in ("", "?wait=0", "?wait=-1"):
            assert (await alice.poll(f"/notifications{query}")).status_code == 200


async def test_long_polls_count_as_tabs(per_user: Server) -> None:
    async with open_tabs(per_user) as alice:
        for _ in range(LIMIT + 1):
            alice.hold()
        done, held = await asyncio.wait(alice.held, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = done
        assert is_too_many(refused.result())
        assert len(held) == LIMIT
        assert is_too_many(await alice.websocket())


async def test_closing_a_tab_admits_exactly_one(per_user: Server) -> None:
    async with open_tabs(per_user) as alice:
        await alice.fill()
        await alice.open.pop().close()
        await alice.open_when_free()
        assert is_too_many(await alice.websocket())
        assert is_too_many(await alice.poll())


async def test_abandoned_long_poll_admits_exactly_one(per_user: Server) -> None:
    async with open_tabs(per_user) as alice:
        for _ in range(LIMIT + 1):
            alice.hold()
        _, held = await asyncio.wait(alice.held, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        held.pop().cancel()
        await alice.open_when_free()
        assert is_too_many(await alice.websocket())


async def race(tabs: list[Tabs], racers: int) -> None:
    """Open ``count`` at once, every other one a WebSocket: exactly the limit is accepted, and stays open."""
    opening = [asyncio.create_task(tabs[number % len(tabs)].websocket()) for number in range(racers)]
    held = [tabs[number % len(tabs)].hold() for number in range(racers)]
    refusals = [task for task in await asyncio.gather(*opening) if task is not None]
    in_by_websocket = racers - len(refusals)
    async with asyncio.timeout(DEADLINE):
        for done in asyncio.as_completed(held):
            refusals.append(await done)
            if len(refusals) == 2 * racers - LIMIT:
                break
    assert all(is_too_many(each) for each in refusals)
    assert sum(not task.done() for task in held) == LIMIT - in_by_websocket


async def refill(tabs: Tabs) -> None:
    """The limit can be filled again once the server has noticed that others have closed."""
    for _ in range(LIMIT):
        await tabs.open_when_free()
    assert is_too_many(await tabs.websocket())


async def test_user_limit_is_exact_under_concurrent_opens(per_user: Server) -> None:
    for _ in range(3):
        async with open_tabs(per_user) as alice:
            await race([alice], 20)
            await alice.close()
            await refill(alice)


async def test_address_limit_is_exact_under_concurrent_opens(per_address: Server) -> None:
    address = "198.51.100.8"
    async with open_tabs(per_address, address) as alice, open_tabs(per_address, address) as bob:
        await race([alice, bob], 20)
        await alice.close()
        await bob.close()
        await refill(alice)


async def test_address_limit_covers_all_its_users(per_address: Server) -> None:
    address = "198.51.100.1"
    async with open_tabs(per_address, address) as alice, open_tabs(per_address, address) as bob:
        for _ in range(LIMIT // 2):
            assert await alice.websocket() is None
            assert await bob.websocket() is None
        assert is_too_many(await alice.websocket())
        assert is_too_many(await bob.poll())
        async with open_tabs(per_address) as elsewhere:
            assert await elsewhere.websocket() is None


@pytest.mark.parametrize(
    ("full", "as_full", "free"),
    [
        ("198.51.100.2", "198.51.100.2", "198.51.100.3"),
        ("203.0.113.1, 198.51.100.4", "203.0.113.2, 198.51.100.4", "198.51.100.4, 198.51.100.5"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "2001:db8:1:3::1"),
        ("::ffff:198.51.100.6", "198.51.100.6", "::ffff:198.51.100.7"),
    ],
)
async def test_address_comes_from_the_trusted_proxy(per_address: Server, full: str, as_full: str, free: str) -> None:
    async with open_tabs(per_address, full) as alice:
        await alice.fill()
        async with open_tabs(per_address, as_full) as bob:
            assert is_too_many(await bob.websocket())
            assert is_too_many(await bob.poll())
        async with open_tabs(per_address, free) as carol:
            assert await carol.websocket() is None

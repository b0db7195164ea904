"""Published notifications reach both clients while servers, bus and network break: ``python -m tests.published 10000``.

A program publishes at one server. The Python client and the npm package, in Node, subscribe at another one, through a
proxy. After the faults every client must have the published state, and have received nothing behind its cursor.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from microblog_rt import files
from microblog_rt.client import Client, Status
from tests import npm_package
from tests.browser.proxy import Proxy
from tests.server_process import DEADLINE, Server
from tests.services import BOUND, Redis
from tests.token_users import TokenUser, token_user

TRANSPORTS = ("websocket", "sse", "longpoll")  # of the users' Python clients
NAMES = 3  # notifications of each user
MOST_FAULTS = 60
SUBSCRIBER = files.CHECKOUT / "tests" / "js" / "subscriber.js"
SWEEP = 1.0  # seconds


class Follower:
    """What a client has received: its state by name, its cursor, and what arrived at or behind the cursor."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.state: dict[str, Any] = {}
        self.cursor = 0.0
        self.received = 0
        self.interruptions = 0
        self.wrong: list[str] = []

    def apply(self, name: str, data: Any, timestamp: float) -> None:
        if timestamp <= self.cursor:
            self.wrong.append(f"{self.label} received {name} = {data} at {timestamp}, behind its cursor {self.cursor}")
        self.state[name] = data
        self.received += 1


class PythonFollower(Follower):
    """A Python client; ``reopen`` replaces it by a new one that continues from its cursor."""

    def __init__(self, user: TokenUser, url: str, transport: str) -> None:
        super().__init__(f"Python, {transport}")
        self._open: Callable[[], Client] = lambda: user.client(url, transports=[transport], on_status=self._changed)
        self._task = asyncio.create_task(self._follow())

    async def reopen(self) -> None:
        await self.close()
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _follow(self) -> None:
        async with self._open() as client:
            async for each in client.notifications(since=self.cursor):
                self.apply(*each)
                self.cursor = client.cursor

    def _changed(self, status: Status) -> None:
        self.interruptions += bool(status.cause)


class World:
    """The servers, of which one publishes and one serves the subscribers, their proxies, and Redis between them."""

    def __init__(self, servers: Sequence[Server], proxies: Sequence[Proxy], redis: Redis) -> None:
        self.publishing, self.serving = servers
        self.publishing_proxy, self.serving_proxy = proxies
        self.redis = redis
        self.publisher = token_user(self.publishing)
        self.users = [token_user(self.publishing) for _ in TRANSPORTS]
        self.expected: dict[str, dict[str, Any]] = {user.name: {} for user in self.users}

    async def publish(self, numbers: range) -> None:
        """Publish these numbers to the users in turn; each is the newest state of its name."""

        async def publish_to(place: int) -> None:
            user = self.users[place]
            for number in numbers:
                if number % len(self.users) == place:
                    name = f"n{number // len(self.users) % NAMES}"
                    await client.publish(user.name, name, number)
                    self.expected[user.name][name] = number

        async with self.publisher.client(self.publishing_proxy.url) as client, asyncio.TaskGroup() as group:
            for place in range(len(self.users)):
                group.create_task(publish_to(place))


Fault = Callable[[World], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def serving_killed(world: World) -> AsyncIterator[None]:
    await asyncio.to_thread(world.serving.stop, signal.SIGKILL)
    yield
    await asyncio.to_thread(world.serving.start)


@asynccontextmanager
async def serving_drained(world: World) -> AsyncIterator[None]:
    await asyncio.to_thread(world.serving.stop)
    yield
    await asyncio.to_thread(world.serving.start)


@asynccontextmanager
async def publishing_killed(world: World) -> AsyncIterator[None]:
    """Requests wait for the new process."""
    await asyncio.to_thread(world.publishing.stop, signal.SIGKILL)
    starting = asyncio.create_task(asyncio.to_thread(world.publishing.start))
    yield
    await starting


@asynccontextmanager
async def responses_lost(world: World) -> AsyncIterator[None]:
    """So that the same requests are sent again."""
    world.publishing_proxy.loses = 5
    yield


@asynccontextmanager
async def bus_killed(world: World) -> AsyncIterator[None]:
    await asyncio.to_thread(world.redis.stop)
    yield
    await asyncio.to_thread(world.redis.start)


@asynccontextmanager
async def bus_paused(world: World) -> AsyncIterator[None]:
    world.redis.pause()
    yield
    world.redis.resume()


@asynccontextmanager
async def network_cut(world: World) -> AsyncIterator[None]:
    await world.serving_proxy.down()
    yield
    await world.serving_proxy.up()


FAULTS: list[Fault] = [
    serving_killed,
    responses_lost,
    bus_killed,
    network_cut,
    publishing_killed,
    bus_paused,
    serving_drained,
]


async def run(folder: Path, count: int, package: Path = npm_package.SOURCE) -> tuple[dict[str, Any], list[str]]:
    """Publish ``count`` notifications under faults: the figures of the run, and what went wrong."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        world = await _world(stack, folder)
        followers = await _followers(stack, world, package)
        python = [each for each in followers if isinstance(each, PythonFollower)]
        await world.publish(range(NAMES * len(world.users)))
        await _converged(world, followers)
        faults = max(len(FAULTS), min(MOST_FAULTS, count // 50))
        edges = [NAMES * len(world.users) + number * count // (2 * faults) for number in range(2 * faults + 1)]
        for number in range(faults):
            async with FAULTS[number % len(FAULTS)](world):
                await world.publish(range(edges[2 * number], edges[2 * number + 1]))
                await python[number % len(python)].reopen()
            await world.publish(range(edges[2 * number + 1], edges[2 * number + 2]))
        published = time.monotonic()
        wrong = await _converged(world, followers)
        figures = {
            "published": edges[-1],
            "faults": faults,
            "lost responses": world.publishing_proxy.lost,
            "received": {each.label: each.received for each in followers},
            "interruptions": {each.label: each.interruptions for each in followers},
            "seconds until converged": round(time.monotonic() - published, 2),
            "seconds": round(time.monotonic() - started, 1),
        }
        return figures, wrong + [line for each in followers for line in each.wrong]


async def _world(stack: AsyncExitStack, folder: Path) -> World:
    redis = stack.enter_context(Redis(folder))
    environ = {"MICROBLOG_BUS_URL": redis.url, "MICROBLOG_SWEEP": str(SWEEP)}
    servers = [Server(folder, environ=environ) for _ in range(2)]
    for each in servers:  # the first makes the database
        await asyncio.to_thread(stack.enter_context, each)
    proxies = [await stack.enter_async_context(Proxy(each.port)) for each in servers]
    return await asyncio.to_thread(World, servers, proxies, redis)


async def _followers(stack: AsyncExitStack, world: World, package: Path) -> list[Follower]:
    """For each user a Python client, and the npm package."""
    url = world.serving_proxy.url
    python = [PythonFollower(user, url, each) for user, each in zip(world.users, TRANSPORTS, strict=True)]
    for each in python:
        stack.push_async_callback(each.close)
    node = [Follower(f"Node {number}") for number in range(len(world.users))]
    command = [*BOUND, "node", str(SUBSCRIBER), str(package), url, *(user.token for user in world.users)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    reading = asyncio.create_task(_read(process, node))

    async def stop() -> None:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await reading

    stack.push_async_callback(stop)
    return [*python, *node]


async def _read(process: asyncio.subprocess.Process, node: list[Follower]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        said = json.loads(line)
        follower = node[said["number"]]
        if "state" in said:
            follower.interruptions += said["state"] == "connecting"
            continue
        for each in said["notifications"]:
            follower.apply(each["name"], each["data"], each["timestamp"])
        follower.cursor = said["since"]


async def _converged(world: World, followers: list[Follower]) -> list[str]:
    """Wait until each client has the published state; which ones do not have it in time."""
    expected = [world.expected[user.name] for user in world.users] * 2
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE):
            while any(each.state != state for each, state in zip(followers, expected, strict=True)):
                await asyncio.sleep(0.01)
    return [
        f"{each.label} has {each.state}, not {state}"
        for each, state in zip(followers, expected, strict=True)
        if each.state != state
    ]


def main() -> int:
    """Run the command line: exit status 1 if a client is wrong."""
    options = argparse.ArgumentParser(prog="python -m tests.published", description=__doc__)
    options.add_argument("count", type=int, nargs="?", default=10_000, help="how many notifications to publish")
    with TemporaryDirectory() as name:
        folder = Path(name)
        package = npm_package.install(npm_package.pack(folder), folder)
        figures, wrong = asyncio.run(run(folder, options.parse_args().count, package))
    for label, value in figures.items():
        print(f"{label:<24} {value}")
    for line in wrong[:20]:
        print(f"! {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""The CPU of a poll without news: one client, one connection, one request at a time."""

import asyncio
import json

from tests.server_process import Server

from benchmarks import meter
from benchmarks.browser import Browser, connected, sender
from benchmarks.table import Figure
from benchmarks.world import Person, World

POLLS, WARM_UP = 3000, 300
TARGET = 1.0  # milliseconds
DESCRIPTORS = 100


def run(world: World) -> list[Figure]:
    """Poll with a current cursor."""
    with world.serving() as (server, pid):
        return asyncio.run(_measured(server, pid, world))


async def _measured(server: Server, pid: int, world: World) -> list[Figure]:
    person = world.subscribers[0]
    async with sender(server, world.senders[0]) as message_sender:
        await message_sender.send(person.name)
    with connected(server) as browser:
        cursor = await _cursor(browser, person)
        await _poll(browser, person, cursor, WARM_UP)
        watch = meter.Stopwatch(pid)
        await _poll(browser, person, cursor, POLLS)
        used = watch.used()
    each = 1e3 / POLLS
    return [
        Figure("CPU of a poll without news", "ms", used.server * each, TARGET, used.load * each),
        Figure("  one at a time", "polls/s", POLLS / used.wall),
    ]


async def _cursor(browser: Browser, person: Person) -> float:
    answer = await browser.get("/notifications?since=0", person.cookie)
    return float(json.loads(answer.body)[-1]["timestamp"])


async def _poll(browser: Browser, person: Person, cursor: float, count: int) -> None:
    for _ in range(count):
        answer = await browser.get(f"/notifications?since={cursor!r}", person.cookie)
        assert (answer.status, answer.body) == (200, b"[]"), answer

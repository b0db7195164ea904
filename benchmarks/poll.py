"""The CPU of a poll without news: one client, one connection, one request at a time."""

import asyncio
import json

from tests.server_process import Server

from benchmarks import meter
from benchmarks.browser import Connection, connected, sender
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
    async with sender(server, world.senders[0]) as message_sender, connected(server) as connection:
        await message_sender.send(person.name)
        cursor = await _cursor(connection, person)
        await _poll(connection, person, cursor, WARM_UP)
        watch = meter.Stopwatch(pid)
        await _poll(connection, person, cursor, POLLS)
        used = watch.used()
    each = 1e3 / POLLS
    return [
        Figure("CPU of a poll without news", "ms", used.server * each, TARGET, used.load * each),
        Figure("  one at a time", "polls/s", POLLS / used.wall),
    ]


async def _cursor(connection: Connection, person: Person) -> float:
    answer = await connection.get("/notifications?since=0", person.cookie)
    return float(json.loads(answer.body)[-1]["timestamp"])


async def _poll(connection: Connection, person: Person, cursor: float, count: int) -> None:
    for _ in range(count):
        answer = await connection.get(f"/notifications?since={cursor!r}", person.cookie)
        assert (answer.status, answer.body) == (200, "[]"), answer

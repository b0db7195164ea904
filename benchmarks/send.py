"""What a durable send costs: a form's POST, answered once the message is committed and on the disk."""

import asyncio
from contextlib import AsyncExitStack

from tests.server_process import Server

from benchmarks import meter
from benchmarks.browser import Sender, sender
from benchmarks.table import Figure
from benchmarks.world import Person, World

SENDS, WARM_UP = 500, 80
CROWD = 8
DESCRIPTORS = 100


def run(world: World) -> list[Figure]:
    """One sender alone, then several at once, each to a recipient of their own; with a new server each."""
    return [figure for senders in (1, CROWD) for figure in _run(world, senders)]


def _run(world: World, senders: int) -> list[Figure]:
    with world.serving() as (server, pid):
        return asyncio.run(_measured(server, pid, world, senders))


async def _measured(server: Server, pid: int, world: World, senders: int) -> list[Figure]:
    async with AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(sender(server, each)) for each in world.senders[:senders]]
        await _send(crowd, world.subscribers, WARM_UP)
        watch = meter.Stopwatch(pid)
        sent = await _send(crowd, world.subscribers, SENDS)
        used = watch.used()
    each = 1e3 / sent
    who = "one at a time" if senders == 1 else f"{senders} at once"
    return [
        Figure(f"CPU of a send, {who}", "ms", used.server * each, load=used.load * each),
        Figure("  form to commit", "sends/s", sent / used.wall),
    ]


async def _send(crowd: list[Sender], recipients: list[Person], count: int) -> int:
    share = count // len(crowd)
    async with asyncio.TaskGroup() as group:
        for someone, recipient in zip(crowd, recipients, strict=False):
            group.create_task(_send_to(someone, recipient, share))
    return share * len(crowd)


async def _send_to(someone: Sender, recipient: Person, count: int) -> None:
    for _ in range(count):
        await someone.send(recipient.name)

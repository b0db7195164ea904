"""The CPU of a send: a form's POST, answered after the message is committed and synced to disk."""

import asyncio
from contextlib import AsyncExitStack

from tests.server_process import Server

from benchmarks import meter
from benchmarks.browser import Sender, sender
from benchmarks.table import Figure
from benchmarks.world import Person, World

SENDS, WARM_UP = 500, 80
CONCURRENT = 8
DESCRIPTORS = 100


def run(world: World) -> list[Figure]:
    """Measure one sender, then several concurrent ones, each with its own recipient; a new server each time."""
    return [figure for senders in (1, CONCURRENT) for figure in _run(world, senders)]


def _run(world: World, senders: int) -> list[Figure]:
    with world.serving() as (server, pid):
        return asyncio.run(_measured(server, pid, world, senders))


async def _measured(server: Server, pid: int, world: World, senders: int) -> list[Figure]:
    async with AsyncExitStack() as stack:
        senders_open = [await stack.enter_async_context(sender(server, each)) for each in world.senders[:senders]]
        await _send(senders_open, world.subscribers, WARM_UP)
        watch = meter.Stopwatch(pid)
        sent = await _send(senders_open, world.subscribers, SENDS)
        used = watch.used()
    each = 1e3 / sent
    label = "one at a time" if senders == 1 else f"{senders} concurrent"
    return [
        Figure(f"CPU of a send, {label}", "ms", used.server * each, load=used.load * each),
        Figure("  form to commit", "sends/s", sent / used.wall),
    ]


async def _send(senders_open: list[Sender], recipients: list[Person], count: int) -> int:
    share = count // len(senders_open)
    async with asyncio.TaskGroup() as group:
        for message_sender, recipient in zip(senders_open, recipients, strict=False):
            group.create_task(_send_to(message_sender, recipient, share))
    return share * len(senders_open)


async def _send_to(message_sender: Sender, recipient: Person, count: int) -> None:
    for _ in range(count):
        await message_sender.send(recipient.name)

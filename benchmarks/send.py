"""Sends by form: a POST, answered after the message is committed and synced to disk. Several concurrent senders."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack

from benchmarks import meter
from benchmarks.browser import Sender, sender
from benchmarks.meter import Used
from benchmarks.peers import tutorial
from benchmarks.peers.tutorial import Running
from benchmarks.results import Figure
from benchmarks.world import Person, World, on_postgresql

WARM_UP = 160
CONCURRENT = 8
MORE_CONCURRENT = 16  # for two processes
GOAL, GOAL_PROCESSES = 5.0, 1.8  # times
PEER_NOTE = f"{tutorial.NAME} has {tutorial.WORKERS} processes"


def run(world: World, flask: bool) -> list[Figure]:
    """Measure on SQLite and on PostgreSQL, each with a new server."""
    figures = _rows("SQLite", _ours(world, CONCURRENT), world.sizes.sends, flask, tutorial.on_sqlite)
    alone = _ours(world, 1)
    figures.append(Figure("  CPU of a send, SQLite, one sender", "ms", alone.server * 1e3, load=alone.load * 1e3))
    with on_postgresql(world.sizes) as other_world:
        used = _ours(other_world, CONCURRENT)
        figures += _rows("PostgreSQL", used, world.sizes.sends, flask, tutorial.on_postgresql)
        one, two = (_ours(other_world, MORE_CONCURRENT, "--workers", workers) for workers in ("1", "2"))
    label = f"  two processes against one, {MORE_CONCURRENT} senders"
    note = "PostgreSQL and the load generator share the cores"
    return [*figures, Figure(label, "times", one.wall / two.wall, GOAL_PROCESSES, more=True, note=note)]


def _ours(world: World, senders: int, *options: str) -> Used:
    with world.serving(*options) as (server, pid):
        return _measured(server.port, pid, world.senders[:senders], world.subscribers, world.sizes.sends)


def _rows(
    database: str, ours: Used, sends: int, flask: bool, peer: Callable[[], AbstractContextManager[Running]]
) -> list[Figure]:
    rate, cpu = f"sends by form, {database}, {CONCURRENT} senders", "  CPU of a send"
    figures = [
        Figure(rate, "sends/s", 1 / ours.wall, GOAL, against=tutorial.NAME, more=True, note=PEER_NOTE if flask else ""),
        Figure(f"{cpu}, {database}", "ms", ours.server * 1e3, load=ours.load * 1e3),
    ]
    if flask:
        with peer() as running:
            names = [f"user{number}" for number in range(2 * CONCURRENT)]
            people = asyncio.run(_signed_in(running, names))
            theirs = _measured(running.port, running.pid, people[:CONCURRENT], people[CONCURRENT:], sends)
        figures += [
            Figure(rate, "sends/s", 1 / theirs.wall, subject=tutorial.NAME, more=True),
            Figure(f"{cpu}, {database}", "ms", theirs.server * 1e3, load=theirs.load * 1e3, subject=tutorial.NAME),
        ]
    return figures


async def _signed_in(running: Running, names: list[str]) -> list[Person]:
    return [await tutorial.sign_in(running, name) for name in names]


def _measured(port: int, pid: int, senders: list[Person], recipients: list[Person], count: int) -> Used:
    """Seconds per send."""
    return asyncio.run(_sent(port, pid, senders, recipients, count))


async def _sent(port: int, pid: int, senders: list[Person], recipients: list[Person], count: int) -> Used:
    async with AsyncExitStack() as stack:
        senders_open = [await stack.enter_async_context(sender(port, each)) for each in senders]
        await _send(senders_open, recipients, WARM_UP)
        watch = meter.Stopwatch(pid)
        sent = await _send(senders_open, recipients, count)
        return Used(*(seconds / sent for seconds in watch.used()))


async def _send(senders_open: list[Sender], recipients: list[Person], count: int) -> int:
    share = count // len(senders_open)
    async with asyncio.TaskGroup() as group:
        for message_sender, recipient in zip(senders_open, recipients, strict=False):
            group.create_task(_send_to(message_sender, recipient, share))
    return share * len(senders_open)


async def _send_to(message_sender: Sender, recipient: Person, count: int) -> None:
    for _ in range(count):
        await message_sender.send(recipient.name)

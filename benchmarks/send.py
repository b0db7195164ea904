"""Sends by form and by the API, answered after the commit is synced to disk; notifications published in batches."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from http import HTTPStatus

from benchmarks import meter
from benchmarks.browser import Sender, connected, post_request, sender
from benchmarks.meter import Used
from benchmarks.peers import tutorial
from benchmarks.peers.tutorial import Running
from benchmarks.results import Figure
from benchmarks.world import Person, World, on_postgresql

WARM_UP = 160
CONCURRENT = 8
MORE_CONCURRENT = 16  # for two processes
GOAL, GOAL_API, GOAL_PUBLISHED, GOAL_PROCESSES = 5.0, 8.0, 40.0, 1.8  # times
BATCH = 100  # notifications
BY_FORM = f"{tutorial.NAME} by form"
PEER_NOTE = f"{tutorial.NAME} has {tutorial.WORKERS} processes"


def run(world: World, flask: bool) -> list[Figure]:
    """Measure on SQLite and on PostgreSQL, each with a new server."""
    figures = _rows("SQLite", _ours(world, CONCURRENT), world.sizes.sends, flask, tutorial.on_sqlite, _by_api(world))
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
    database: str,
    ours: Used,
    sends: int,
    flask: bool,
    peer: Callable[[], AbstractContextManager[Running]],
    others: Sequence[Figure] = (),
) -> list[Figure]:
    """The rows of one database; those of ``others`` are compared with the same figure of the peer."""
    rate, cpu = f"sends by form, {database}, {CONCURRENT} senders", "  CPU of a send"
    figures = [
        Figure(rate, "sends/s", 1 / ours.wall, GOAL, against=tutorial.NAME, more=True, note=PEER_NOTE if flask else ""),
        Figure(f"{cpu}, {database}", "ms", ours.server * 1e3, load=ours.load * 1e3),
        *others,
    ]
    if flask:
        with peer() as running:
            names = [f"user{number}" for number in range(2 * CONCURRENT)]
            people = asyncio.run(_signed_in(running, names))
            theirs = _measured(running.port, running.pid, people[:CONCURRENT], people[CONCURRENT:], sends)
        figures += [
            *(
                each._replace(value=1 / theirs.wall, subject=tutorial.NAME, goal=None, load=None)
                for each in (figures[0], *others)
            ),
            Figure(f"{cpu}, {database}", "ms", theirs.server * 1e3, load=theirs.load * 1e3, subject=tutorial.NAME),
        ]
    return figures


def _by_api(world: World) -> list[Figure]:
    """Sends with an access token, then batches of notifications to as many users."""
    with world.serving() as (server, pid):
        sent = asyncio.run(_sent_by_api(server.port, pid, world))
    with world.serving() as (server, pid):
        published = asyncio.run(_published(server.port, pid, world))
    rate, batches = (
        f"sends by the JSON API, SQLite, {CONCURRENT} senders",
        f"notifications in batches of {BATCH}, SQLite",
    )
    flask = tutorial.NAME
    return [
        Figure(rate, "sends/s", 1 / sent.wall, GOAL_API, against=flask, more=True, note=BY_FORM),
        Figure(batches, "1/s", 1 / published.wall, GOAL_PUBLISHED, against=flask, more=True, note=BY_FORM),
    ]


async def _sent_by_api(port: int, pid: int, world: World) -> Used:
    share = world.sizes.sends // CONCURRENT

    async def send(person: Person, recipient: Person) -> None:
        body = json.dumps({"recipient": recipient.name, "body": "hello"}).encode()
        with connected(port) as browser:
            for _ in range(share):
                answer = await browser.ask(post_request(port, "/api/v1/messages", "", body, _as_program(person)))
                assert answer.status == HTTPStatus.CREATED, answer

    async def send_all() -> None:
        async with asyncio.TaskGroup() as group:
            for person, recipient in zip(world.senders[:CONCURRENT], world.subscribers, strict=False):
                group.create_task(send(person, recipient))

    await send_all()
    watch = meter.Stopwatch(pid)
    await send_all()
    return Used(*(seconds / (share * CONCURRENT) for seconds in watch.used()))


async def _published(port: int, pid: int, world: World) -> Used:
    batches = world.sizes.sends // CONCURRENT

    async def publish(number: int) -> None:
        items = [{"user": each.name, "key": "badge", "data": number} for each in world.subscribers[:BATCH]]
        body = json.dumps({"items": items}).encode()
        answer = await browser.ask(post_request(port, "/api/v1/notifications", "", body, _as_program(world.senders[0])))
        assert answer.body.count(b'"status": 200') == BATCH, answer

    with connected(port) as browser:
        for number in range(WARM_UP // BATCH + 1):
            await publish(number)
        watch = meter.Stopwatch(pid)
        for number in range(batches):
            await publish(number)
        return Used(*(seconds / (batches * BATCH) for seconds in watch.used()))


def _as_program(person: Person) -> str:
    return f"Content-Type: application/json\r\nAuthorization: Bearer {person.token}\r\n"


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

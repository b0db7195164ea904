"""Everything that is broken on purpose: each fault breaks something, lasts a while, and heals; by name, in ``FAULTS``.

A fault that ends a process returns once another serves in its place. Not here: what is broken when (``rows.py``).
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable

from tests.proof.host import Host
from tests.proof.http import TROUBLE, Connection
from tests.proof.world import World

Fault = Callable[..., Awaitable[None]]

DEADLINE = 40.0
LOOK_AGAIN = 0.05  # seconds
DROPPED = 0.3  # of all tabs


async def worker_killed(world: World, seconds: float, host: Host | None = None) -> None:
    """SIGKILL for one worker."""
    host = host or world.dice.choice(world.hosts)
    before = host.workers()
    if before:
        _signal(world.dice.choice(before), signal.SIGKILL)
    await _whole(host)


async def host_killed(world: World, seconds: float, host: Host | None = None) -> None:
    """SIGKILL for a supervisor and all its workers at once; it is started again after a while."""
    host = host or world.dice.choice(world.hosts)
    host.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(host.start)


async def worker_stopped(world: World, seconds: float) -> None:
    """A worker hangs, with whatever it holds, and goes on later as if nothing had been."""
    workers = world.dice.choice(world.hosts).workers()
    if not workers:
        return
    worker = world.dice.choice(workers)
    _signal(worker, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    _signal(worker, signal.SIGCONT)


async def bus_cut(world: World, seconds: float) -> None:
    """One host, or both, cannot connect to Redis."""
    await _on_lines(world, seconds, lambda line: line.cut())


async def bus_flickers(world: World, seconds: float) -> None:
    """Connections to Redis end, and can be made again at once."""
    await _on_lines(world, 0, lambda line: line.cut())


async def bus_paused(world: World, seconds: float) -> None:
    """Nothing comes back from Redis, and nothing is said of that."""
    await _on_lines(world, seconds, lambda line: line.pause())


async def bus_deaf(world: World, seconds: float) -> None:
    """Redis takes what is told, and nobody hears it."""
    await _on_lines(world, seconds, lambda line: line.deafen())


async def redis_killed(world: World, seconds: float) -> None:
    """Redis itself is killed, and started again."""
    world.redis.stop()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.redis.start)


async def database_killed(world: World, seconds: float) -> None:
    """PostgreSQL ends at once, with every connection, and is started again."""
    await asyncio.to_thread(world.database.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.database.start)


async def database_backend_killed(world: World, seconds: float) -> None:
    """SIGKILL for one process of PostgreSQL, which then starts anew by itself."""
    backends = world.database.backends()
    if backends:
        _signal(world.dice.choice(backends), signal.SIGKILL)
    until = time.monotonic() + DEADLINE
    while not await world.database_answers():
        assert time.monotonic() < until, world.database.logged()[-3000:]
        await asyncio.sleep(LOOK_AGAIN)


async def database_paused(world: World, seconds: float) -> None:
    """PostgreSQL is there, and does not answer."""
    await asyncio.to_thread(world.database.pause)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.database.resume)


async def clients_dropped(world: World, seconds: float) -> None:
    """Many tabs lose their connections at once."""
    for tab in world.dice.sample(world.tabs, int(len(world.tabs) * DROPPED)):
        tab.drop()


BUS: list[Fault] = [bus_cut, bus_paused, bus_deaf]
PROCESSES: list[Fault] = [worker_killed, host_killed, redis_killed, database_killed, database_backend_killed]
ALL: list[Fault] = [*PROCESSES, *BUS, bus_flickers, worker_stopped, database_paused, clients_dropped]


async def _on_lines(world: World, seconds: float, harm: Callable[..., None]) -> None:
    lines = world.dice.choice([world.lines, [world.dice.choice(world.lines)]])
    for line in lines:
        harm(line)
    await asyncio.sleep(seconds)
    for line in lines:
        line.heal()


async def _whole(host: Host) -> None:
    """Until it has its two workers again, and answers."""
    until = time.monotonic() + DEADLINE
    while len(host.workers()) < 2 or not await answers(host):
        assert time.monotonic() < until, f"{host.name} does not serve: {host.workers()}, {host.logged()[-3000:]}"
        await asyncio.sleep(LOOK_AGAIN)


async def answers(host: Host) -> bool:
    """Whether it takes a question just now."""
    connection = Connection(host.port)
    try:
        return (await connection.ask("GET", "/healthz", {}, seconds=2)).status == 200
    except TROUBLE:
        return False
    finally:
        connection.drop()


async def back(world: World, host: Host) -> float:
    """How many seconds it takes from now until a message is acknowledged there."""
    began = world.ledger.now()
    async with asyncio.timeout(DEADLINE):
        while not await world.doing.probe(host):
            await asyncio.sleep(LOOK_AGAIN)
    return world.ledger.now() - began


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself meanwhile
        os.kill(pid, number)

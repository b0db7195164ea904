"""The injected faults. Each breaks one thing, keeps it broken for a while, and repairs it.

A fault that kills a process returns once its replacement serves. See also: ``rows.py``, which schedules the faults.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable

from tests.http_connection import ERRORS, Connection
from tests.proof.host import Host
from tests.proof.world import World

Fault = Callable[..., Awaitable[None]]

DEADLINE = 40.0
RETRY_EVERY = 0.05  # seconds
DROPPED = 0.3  # of all tabs


async def worker_killed(world: World, seconds: float, host: Host | None = None) -> None:
    """Kill one worker with SIGKILL."""
    host = host or world.dice.choice(world.hosts)
    before = host.workers()
    if before:
        _signal(world.dice.choice(before), signal.SIGKILL)
    await _serving(host)


async def host_killed(world: World, seconds: float, host: Host | None = None) -> None:
    """Kill a supervisor and all its workers with SIGKILL, and start it again after ``seconds``."""
    host = host or world.dice.choice(world.hosts)
    host.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(host.start)


async def worker_stopped(world: World, seconds: float) -> None:
    """Stop a worker with SIGSTOP, with the locks and connections it holds, and continue it after ``seconds``."""
    workers = world.dice.choice(world.hosts).workers()
    if not workers:
        return
    worker = world.dice.choice(workers)
    _signal(worker, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    _signal(worker, signal.SIGCONT)


async def bus_cut(world: World, seconds: float) -> None:
    """Cut one host, or both, off from Redis for ``seconds``."""
    await _on_proxies(world, seconds, lambda proxy: proxy.cut())


async def bus_flickers(world: World, seconds: float) -> None:
    """Abort the connections to Redis; new ones succeed immediately."""
    await _on_proxies(world, 0, lambda proxy: proxy.cut())


async def bus_paused(world: World, seconds: float) -> None:
    """Forward nothing to and from Redis for ``seconds``, with the connections left open."""
    await _on_proxies(world, seconds, lambda proxy: proxy.pause())


async def bus_silenced(world: World, seconds: float) -> None:
    """Drop what Redis publishes for ``seconds``; it answers all commands."""
    await _on_proxies(world, seconds, lambda proxy: proxy.silence())


async def redis_killed(world: World, seconds: float) -> None:
    """Kill Redis, and start it again after ``seconds``."""
    world.redis.stop()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.redis.start)


async def database_killed(world: World, seconds: float) -> None:
    """Stop PostgreSQL immediately, with every connection, and start it again after ``seconds``."""
    await asyncio.to_thread(world.database.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.database.start)


async def database_backend_killed(world: World, seconds: float) -> None:
    """Kill one backend of PostgreSQL with SIGKILL; PostgreSQL restarts itself."""
    backends = world.database.backends()
    if backends:
        _signal(world.dice.choice(backends), signal.SIGKILL)
    until = time.monotonic() + DEADLINE
    while not await world.database_answers():
        assert time.monotonic() < until, world.database.logged()[-3000:]
        await asyncio.sleep(RETRY_EVERY)


async def database_paused(world: World, seconds: float) -> None:
    """Hang PostgreSQL for ``seconds``."""
    await asyncio.to_thread(world.database.pause)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.database.resume)


async def clients_dropped(world: World, seconds: float) -> None:
    """Abort the connections of 30 % of the tabs at the same time."""
    for tab in world.dice.sample(world.tabs, int(len(world.tabs) * DROPPED)):
        tab.drop()


BUS: list[Fault] = [bus_cut, bus_paused, bus_silenced]
PROCESSES: list[Fault] = [worker_killed, host_killed, redis_killed, database_killed, database_backend_killed]
ALL: list[Fault] = [*PROCESSES, *BUS, bus_flickers, worker_stopped, database_paused, clients_dropped]


async def _on_proxies(world: World, seconds: float, inject: Callable[..., None]) -> None:
    proxies = world.dice.choice([world.proxies, [world.dice.choice(world.proxies)]])
    for proxy in proxies:
        inject(proxy)
    await asyncio.sleep(seconds)
    for proxy in proxies:
        proxy.heal()


async def _serving(host: Host) -> None:
    """Return once the host has two workers and answers."""
    until = time.monotonic() + DEADLINE
    while len(host.workers()) < 2 or not await answers(host):
        assert time.monotonic() < until, f"{host.name} does not serve: {host.workers()}, {host.logged()[-3000:]}"
        await asyncio.sleep(RETRY_EVERY)


async def answers(host: Host) -> bool:
    """Whether the host answers a request now."""
    connection = Connection(host.port)
    try:
        return (await connection.request("GET", "/healthz", {}, seconds=2)).status == 200
    except ERRORS:
        return False
    finally:
        connection.drop()


async def recovery_time(world: World, host: Host) -> float:
    """Seconds from now until that host acknowledges a message."""
    began = world.ledger.now()
    async with asyncio.timeout(DEADLINE):
        while not await world.workload.probe(host):
            await asyncio.sleep(RETRY_EVERY)
    return world.ledger.now() - began


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # the process has exited meanwhile
        os.kill(pid, number)

"""Every interleaving of a few actors, statement by statement, on real databases.

Each actor has its own ``Storage`` on one database, as processes have. It stops at a gate before every statement,
BEGIN and COMMIT; a schedule is the order in which gates are opened. On SQLite an actor at a BEGIN is blocked while
another holds the write lock, which ``test_interleavings`` verifies. On PostgreSQL the server reports which backends
wait for a lock. All schedules are run depth first, each from the same state.
"""

import asyncio
import itertools
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg
from sqlalchemy import event
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from microblog_rt.models import Base
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from tests.conftest import KEY, PATIENT

Script = Callable[[Services], Awaitable[Any]]

BEGIN, STATEMENT, COMMIT, DONE = "begin", "statement", "commit", "done"


class Backend(Protocol):
    """The database that schedules run on; ``at_most``: the number of schedules per test (None: all)."""

    at_most: int | None

    def fresh(self) -> AbstractAsyncContextManager[str]:
        """The URL of a database in the initial state of every schedule."""

    async def settled(self, actors: "Sequence[Actor]") -> None:
        """Return once every actor is at a gate, is done, or waits for a lock of another."""

    def can_step(self, actor: "Actor", actors: "Sequence[Actor]") -> bool:
        """Whether the gate of ``actor`` may be opened."""


class SQLiteBackend:
    """Each schedule runs on a copy of the file ``template``."""

    def __init__(self, template: Path, at_most: int | None) -> None:
        self._template = template
        self.at_most = at_most

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        path = self._template.with_name("copy.db")
        shutil.copy(self._template, path)
        try:
            yield f"sqlite+aiosqlite:///{path}"
        finally:
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()

    async def settled(self, actors: "Sequence[Actor]") -> None:
        for actor in actors:
            await actor.arrived.wait()

    def can_step(self, actor: "Actor", actors: "Sequence[Actor]") -> bool:
        locked = any(each.writing for each in actors if each is not actor)
        return not (actor.next is BEGIN and locked)


class PostgreSQLBackend:
    """Before each schedule the tables are refilled with their initial rows."""

    def __init__(self, url: str, raw: "asyncpg.Connection", at_most: int | None) -> None:
        self._url = url
        self.at_most = at_most
        self._raw = raw

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, at_most: int | None) -> AsyncIterator["PostgreSQLBackend"]:
        """Keep the present rows of the database at ``url`` as the initial ones."""
        raw = await asyncpg.connect(url.replace("+asyncpg", ""))
        names = [f'"{each.name}"' for each in Base.metadata.sorted_tables]
        await raw.execute("CREATE SCHEMA initial")
        for name in names:
            await raw.execute(f"CREATE TABLE initial.{name} AS TABLE {name}")
        try:
            yield cls(url, raw, at_most)
        finally:
            await raw.execute("DROP SCHEMA initial CASCADE")
            await raw.close()

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        names = [f'"{each.name}"' for each in Base.metadata.sorted_tables]
        refill = [f"INSERT INTO {name} SELECT * FROM initial.{name}" for name in names]
        await self._raw.execute("; ".join([f"TRUNCATE {', '.join(names)}", *refill]))
        yield self._url

    async def settled(self, actors: "Sequence[Actor]") -> None:
        async with asyncio.timeout(DEADLINE):
            while running := sum(not each.arrived.is_set() for each in actors):
                if running == await self._raw.fetchval(BLOCKED_BACKENDS):
                    return

    def can_step(self, actor: "Actor", actors: "Sequence[Actor]") -> bool:
        return True


DEADLINE = 60.0  # seconds
RANDOM = random.Random(4)
# Not those of autovacuum, which may wait for a lock as well.
BLOCKED_BACKENDS = """SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND datname = current_database() AND application_name = 'microblog-rt'"""


class Actor:
    """Runs one script, from gate to gate."""

    def __init__(self, url: str, script: Script) -> None:
        self.services = assemble(Settings(database_url=url, secret_key=KEY), PATIENT)
        self._script = script
        self.arrived = asyncio.Event()
        self._open = asyncio.Event()
        self.next = STATEMENT
        self.writing = False
        self._committing = False
        self._gated = True
        self._hook()

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run())

    def step(self) -> None:
        """Open the gate."""
        if self.next is BEGIN:
            self.writing = True
        self.arrived.clear()
        self._open.set()

    async def end(self) -> None:
        """Run without gates what the script returned, and close the services."""
        last = await self._task
        self._gated = False
        if last is not None:
            await last()
        await self.services.storage.close()

    async def _run(self) -> Any:
        try:
            return await self._script(self.services)
        finally:
            self.next = DONE
            self.writing = False
            self.arrived.set()

    async def _gate(self, step: str) -> None:
        if not self._gated:
            return
        if self._committing:
            self.writing = False
        self._committing = step is COMMIT
        self.next = step
        self._open.clear()
        self.arrived.set()
        await self._open.wait()

    def _hook(self) -> None:
        self._loop = asyncio.get_running_loop()
        reader, writer = self.services.storage.engines
        for engine in (reader, writer):
            event.listen(engine, "before_cursor_execute", self._before_statement)
        # A send on PostgreSQL, one statement, is put into a transaction: it holds its locks at the gate of the COMMIT.
        run = self.services.storage._writer.run
        self.services.storage._writer.run = lambda work, after_commit=None, _=False: run(work, after_commit)
        for end in ("commit", "rollback"):
            event.listen(writer, end, lambda _: self._wait_at_gate(COMMIT))

    def _before_statement(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        self._wait_at_gate(BEGIN if statement.startswith("BEGIN") else STATEMENT)

    def _wait_at_gate(self, step: str) -> None:
        if in_greenlet():
            await_only(self._gate(step))
        else:  # SQLite's writer runs in its own thread
            asyncio.run_coroutine_threadsafe(self._gate(step), self._loop).result()


async def every_interleaving(
    backend: Backend, scripts: Callable[[], list[Script]], check: Callable[[Services], Awaitable[None]]
) -> int:
    """Run all schedules of new ``scripts``, or ``backend.at_most`` of them, each with ``check``; their number."""
    schedules: list[list[int]] = [[]]
    count = 0
    while schedules and (backend.at_most is None or count < backend.at_most):
        # Depth first keeps the list short if all are run. A sample is drawn from everywhere.
        prefix = schedules.pop(-1 if backend.at_most is None else RANDOM.randrange(len(schedules)))
        async with backend.fresh() as url:
            _, others = await _run(backend, url, scripts(), prefix, check)
        schedules += others
        count += 1
    print(f"{count} schedules")
    return count


async def every_pause(
    backend: Backend, paused: Script, script: Script, check: Callable[[Services], Awaitable[None]]
) -> int:
    """Run ``paused`` up to each of its gates, then ``script`` as far as it gets, then both; the number of gates."""
    for gates in itertools.count():
        async with backend.fresh() as url:
            taken, _ = await _run(backend, url, [script, paused], [1] * gates, check)
        if taken[: gates + 1].count(1) == taken.count(1):
            return gates
    raise AssertionError("unreachable")


async def _run(
    backend: Backend, url: str, scripts: list[Script], prefix: list[int], check: Callable[[Services], Awaitable[None]]
) -> tuple[list[int], list[list[int]]]:
    """Run one schedule that begins with ``prefix``; all its steps, and the schedules that branch off from it."""
    actors = [Actor(url, script) for script in scripts]
    for actor in actors:
        actor.begin()
        await backend.settled([actor])
    taken: list[int] = []
    others: list[list[int]] = []
    while ready := [number for number, actor in enumerate(actors) if _is_ready(backend, actor, actors)]:
        if len(taken) < len(prefix):
            choice = prefix[len(taken)]
            assert choice in ready, f"not deterministic after {taken}"
        else:
            choice = ready[0]
            others += [[*taken, other] for other in ready[1:]]
        taken.append(choice)
        actors[choice].step()
        await backend.settled(actors)
    for actor in actors:
        await actor.end()
    await _check(url, check, taken)
    return taken, others


def _is_ready(backend: Backend, actor: Actor, actors: list[Actor]) -> bool:
    return actor.arrived.is_set() and actor.next is not DONE and backend.can_step(actor, actors)


async def _check(url: str, check: Callable[[Services], Awaitable[None]], taken: list[int]) -> None:
    services = assemble(Settings(database_url=url, secret_key=KEY))
    try:
        await check(services)
    except AssertionError as error:
        raise AssertionError(f"in the order {taken}: {error}") from error
    finally:
        await services.storage.close()

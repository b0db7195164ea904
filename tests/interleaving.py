"""Every interleaving of a few actors, statement by statement, on real databases.

Each actor has a ``Storage`` of its own on one file, as processes have. Before every statement, every BEGIN and
every COMMIT it stops at a gate; a schedule says whose gate opens next. An actor that is about to BEGIN while
another holds SQLite's write lock cannot go on; ``test_interleavings`` proves that this is so. Depth first, all
schedules are run, each on a fresh copy of the database.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.util import await_only

from microblog_rt.app import Parts, assemble
from microblog_rt.settings import Settings
from tests.conftest import KEY

Script = Callable[[Parts], Awaitable[None]]

BEGIN, STATEMENT, COMMIT, DONE = "begin", "statement", "commit", "done"


class Actor:
    """One script, run up to the next gate at a time."""

    def __init__(self, path: Path, script: Script) -> None:
        self.parts = assemble(Settings(database_url=f"sqlite+aiosqlite:///{path}", secret_key=KEY))
        self._script = script
        self._arrived = asyncio.Event()
        self._open = asyncio.Event()
        self.next = STATEMENT
        self.writing = False
        self._hook()

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def arrived(self) -> None:
        """Wait until it stands at a gate, or is done."""
        await self._arrived.wait()

    async def step(self) -> None:
        """Open its gate, and wait for the next."""
        self.writing = self.next in (BEGIN, COMMIT) or (self.writing and self.next is STATEMENT)
        committing = self.next is COMMIT
        self._arrived.clear()
        self._open.set()
        await self._arrived.wait()
        if committing:
            self.writing = False

    async def end(self) -> None:
        await self._task
        await self.parts.storage.close()

    async def _run(self) -> None:
        try:
            await self._script(self.parts)
        finally:
            self.next = DONE
            self._arrived.set()

    async def _gate(self, step: str) -> None:
        self.next = step
        self._open.clear()
        self._arrived.set()
        await self._open.wait()

    def _hook(self) -> None:
        reader, writer = self.parts.storage._reader.sync_engine, self.parts.storage._writer.sync_engine
        for engine in (reader, writer):
            event.listen(engine, "before_cursor_execute", self._before_statement)
        for end in ("commit", "rollback"):
            event.listen(writer, end, lambda _: await_only(self._gate(COMMIT)))

    def _before_statement(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        await_only(self._gate(BEGIN if statement.startswith("BEGIN") else STATEMENT))


async def every_interleaving(
    template: Path, scripts: Callable[[], list[Script]], check: Callable[[Parts], Awaitable[None]]
) -> int:
    """Run all schedules of freshly made ``scripts`` on copies of ``template``, ``check`` after each; how many."""
    schedules: list[list[int]] = [[]]
    count = 0
    while schedules:
        with _copied(template, count) as path:
            schedules += await _run(path, scripts(), schedules.pop(), check)
        count += 1
    return count


async def _run(
    path: Path, scripts: list[Script], prefix: list[int], check: Callable[[Parts], Awaitable[None]]
) -> list[list[int]]:
    """One schedule that begins with ``prefix``; the schedules that it passed by."""
    actors = [Actor(path, script) for script in scripts]
    for actor in actors:
        actor.begin()
        await actor.arrived()
    taken: list[int] = []
    others: list[list[int]] = []
    while ready := [number for number, actor in enumerate(actors) if _can_go_on(actor, actors)]:
        if len(taken) < len(prefix):
            choice = prefix[len(taken)]
        else:
            choice = ready[0]
            others += [[*taken, other] for other in ready[1:]]
        taken.append(choice)
        await actors[choice].step()
    for actor in actors:
        await actor.end()
    await _check(path, check, taken)
    return others


def _can_go_on(actor: Actor, actors: list[Actor]) -> bool:
    locked = any(each.writing for each in actors if each is not actor)
    return actor.next is not DONE and not (actor.next is BEGIN and locked)


async def _check(path: Path, check: Callable[[Parts], Awaitable[None]], taken: list[int]) -> None:
    parts = assemble(Settings(database_url=f"sqlite+aiosqlite:///{path}", secret_key=KEY))
    try:
        await check(parts)
    except AssertionError as error:
        raise AssertionError(f"in the order {taken}: {error}") from error
    finally:
        await parts.storage.close()


@contextmanager
def _copied(template: Path, number: int) -> Iterator[Path]:
    path = template.with_name(f"{template.stem}-{number}.db")
    shutil.copy(template, path)
    try:
        yield path
    finally:
        for left in template.parent.glob(f"{path.name}*"):
            left.unlink()

"""Group commit: changes that wait together for SQLite's writer are committed together.

A commit waits for the disk, and a transaction costs as much as a change. The first change of a group has the
transaction to itself; those that arrive before its commit follow, each in a savepoint, so that one that fails is undone
alone. Nothing waits for a group to fill: a lone change is committed at once.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")

LARGEST = 32  # changes
LONGEST = 0.05  # seconds, after which a group takes no more changes: its first ones wait for the commit


class Pending:
    """A change that waits for its commit, and its outcome."""

    __slots__ = ("_error", "_future", "_given_up", "_result", "_work", "context")

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self._work = work
        self.context = copy_context()
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._result: Any = None
        self._error: BaseException | None = None
        self._given_up = False

    async def outcome(self) -> Any:
        """The result, after the commit; a change whose caller is cancelled before its commit is undone."""
        try:
            return await self._future
        except asyncio.CancelledError:
            self._given_up = True
            raise

    def apply(self, tx: Connection) -> None:
        """Run the change; raises what it raises, TimeoutError if it was given up."""
        if not self._given_up:
            self._result = self._work(tx)
        if self._given_up:
            raise TimeoutError("the transaction was given up")

    def fail(self, error: BaseException) -> None:
        """Set the outcome to ``error``, unless the change has an error of its own."""
        self._error = self._error or error

    def deliver(self) -> None:
        """Set the future, on the event loop."""
        if self._future.done():
            return
        if self._error is None:
            self._future.set_result(self._result)
        else:
            self._future.set_exception(self._error)

    def notify(self, group: "Sequence[Pending]") -> None:
        """Deliver the outcomes of ``group`` in one call of the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._future.get_loop().call_soon_threadsafe(_deliver, group)


class GroupCommit:
    """Applies changes in the order of their arrival, in groups, in a thread of its own."""

    def __init__(self, engine: Engine, before_commit: Callable[[], None], after_commit: Callable[[Any], None]) -> None:
        """``after_commit`` gets the driver's connection; both are called in the writer's thread."""
        self._engine = engine
        self._before_commit = before_commit
        self._after_commit = after_commit
        self._waiting: deque[Pending] = deque()
        self._scheduled = False
        self._thread = ThreadPoolExecutor(1, "sqlite-writer")
        self.committed = float("-inf")  # when, by the monotonic clock

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Apply ``work`` and return its result after the commit."""
        pending = Pending(work)
        self._waiting.append(pending)
        if not self._scheduled:
            self._scheduled = True
            self._thread.submit(self._commit_waiting)
        result: T = await pending.outcome()
        return result

    async def read(self, work: Callable[[Any], T]) -> T:
        """Call ``work`` with the driver's connection, between two transactions."""

        def run() -> T:
            with self._engine.raw_connection() as connection:
                return work(connection.dbapi_connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def close(self) -> None:
        """Dispose of the engine after the changes that wait."""
        self._thread.submit(self._engine.dispose)
        await asyncio.to_thread(self._thread.shutdown)

    def _commit_waiting(self) -> None:
        self._scheduled = False  # what arrives later is found below, or by the next call
        while self._waiting:
            group = [self._waiting.popleft()]
            try:
                group[0].context.run(self._commit, group)
            except BaseException as error:  # of the first change alone, or of the whole transaction
                for each in group:
                    each.fail(error)
            group[0].notify(group)

    def _commit(self, group: list[Pending]) -> None:
        """Commit the change in ``group``, and append those that were committed with it."""
        until = time.monotonic() + LONGEST
        with self._engine.begin() as tx:
            group[0].apply(tx)
            while self._waiting and len(group) < LARGEST and time.monotonic() < until:
                group.append(self._waiting.popleft())
                _apply_in_savepoint(tx, group[-1])
            self._before_commit()
            connection = tx.connection.dbapi_connection
        self.committed = time.monotonic()
        self._after_commit(connection)


def _apply_in_savepoint(tx: Connection, change: Pending) -> None:
    tx.exec_driver_sql("SAVEPOINT change")
    try:
        change.context.run(change.apply, tx)
    except BaseException as error:
        if not tx.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
            raise  # SQLite has rolled everything back: the disk is full, or has failed
        tx.exec_driver_sql("ROLLBACK TO change")
        change.fail(error)
    tx.exec_driver_sql("RELEASE change")


def _deliver(group: Sequence[Pending]) -> None:
    for each in group:
        each.deliver()

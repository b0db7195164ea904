"""Group commit: changes that wait together for SQLite's writer are committed together.

A commit waits for the disk, and a transaction costs as much as a change, so several changes share them. The first
change of a group has the transaction to itself; those that arrive before its commit follow, each in a savepoint, so
that one that fails is undone alone. Nothing waits for a group to fill: a lone change is committed at once.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from sqlalchemy.engine import Connection, Engine

log = logging.getLogger(__name__)

T = TypeVar("T")

LARGEST = 32  # changes
LONGEST = 0.05  # seconds, after which a group takes no more changes: its first changes wait for the commit
LONGEST_PAUSE = 0.005  # seconds between two groups, for other processes


class Pending:
    """A change that waits for its commit, and its outcome."""

    __slots__ = ("_after_commit", "_error", "_future", "_result", "_work", "context", "given_up")

    def __init__(self, work: Callable[[Connection], Any], after_commit: Callable[[], None] | None) -> None:
        self._work = work
        self._after_commit = after_commit
        self.context = copy_context()
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._result: Any = None
        self._error: BaseException | None = None
        self.given_up = False  # its caller was cancelled

    async def outcome(self) -> Any:
        """The result, after the commit. If the caller is cancelled before the change has run, it is undone."""
        try:
            return await self._future
        except asyncio.CancelledError:
            self.given_up = True
            raise

    def apply(self, tx: Connection) -> None:
        """Run the change; raises what it raises, TimeoutError if it was given up."""
        if not self.given_up:
            self._result = self._work(tx)
        if self.given_up:
            raise TimeoutError("the transaction was given up")

    def fail(self, error: BaseException) -> None:
        """Set the outcome to ``error``; that of the whole transaction replaces the change's own.

        The change's own could be due to a change before it, as "sent already" is, and that was undone as well.
        """
        self._error = error

    def deliver(self) -> None:
        """Signal what was committed, and set the future, on the event loop."""
        if self._error is None and self._after_commit is not None:
            try:
                self._after_commit()
            except Exception:  # what is committed has been done
                log.exception("signalling failed; the sweep will find what was not signalled")
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

    async def run(self, work: Callable[[Connection], T], after_commit: Callable[[], None] | None = None) -> T:
        """Apply ``work`` and return its result after the commit.

        ``after_commit`` is called on the event loop, also if the caller has been cancelled meanwhile.
        """
        pending = Pending(work, after_commit)
        self._waiting.append(pending)
        if not self._scheduled:
            self._scheduled = True
            try:
                self._thread.submit(self._commit_waiting)
            except RuntimeError:  # no thread can be started
                self._scheduled = False
                self._waiting.remove(pending)
                raise
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
            if group[0].given_up:
                continue
            began = time.monotonic()
            try:
                group[0].context.run(self._commit, group)
            except BaseException as error:  # of the first change alone, or of the whole transaction
                for each in group:
                    each.fail(error)
            group[0].notify(group)
            if self._waiting:
                # SQLite's lock has no queue: without a pause another process would hardly ever get it.
                time.sleep(min(LONGEST_PAUSE, (time.monotonic() - began) / 4))

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

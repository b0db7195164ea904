"""One subscription: carries out the actions of the state machine, and passes notifications to the application."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, Self

from microblog_rt.client.errors import Unreachable, rejected
from microblog_rt.client.events import (
    Action,
    Apply,
    Close,
    Event,
    Merge,
    Notification,
    Open,
    OperationEvent,
    Pause,
    Send,
    Start,
    Status,
    Stop,
    Tick,
)
from microblog_rt.client.link import Link

REFUSALS = {401: "signed_out", 403: "forbidden"}


class Steps(Protocol):
    """A state machine."""

    @property
    def due(self) -> float | None: ...

    def handle(self, event: Event, now: float) -> list[Action]: ...


class Driver:
    """Runs a state machine on the event loop; its actions that are not I/O are passed to ``on_action``."""

    def __init__(
        self, machine: Steps, link: Link, names: Sequence[str], on_action: Callable[[Apply | Status | Stop], None]
    ) -> None:
        self._machine = machine
        self._link = link
        self._names = names
        self._on_action = on_action
        self._operations: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.error: BaseException | None = None  # an unexpected one, in a task
        self.closed = False

    def feed(self, event: Event) -> None:
        """Pass an event to the machine and carry out its actions."""
        if self.closed:
            return
        for action in self._machine.handle(event, milliseconds()):
            self._perform(action)
        self._schedule()

    async def close(self) -> None:
        self.feed(Pause())
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _perform(self, action: Action) -> None:
        match action:
            case Open():
                self._operations[action.id] = self._spawn(self._run(action))
            case Send(number, text):
                self._spawn(self._link.send(number, text))
            case Close(number):
                if task := self._operations.get(number):
                    task.cancel()
            case _:
                self._on_action(action)

    async def _run(self, operation: Open) -> None:
        def report(event: OperationEvent) -> None:
            self.feed(event)

        try:
            await self._link.run(operation, self._names, report)
        finally:
            self._operations.pop(operation.id, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error = error
            self._on_action(Stop(0, repr(error)))

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._machine.due
        self._timer = None if due is None else self._loop.call_at(due / 1000, self.feed, Tick())


class Subscription:
    """Notifications in the order of their timestamps, the latest of each name, for as long as the session lasts.

    A slow reader does not see every intermediate state: at most one notification of each name waits for it.
    """

    def __init__(
        self,
        machine: Steps,
        link: Link,
        since: float,
        names: Sequence[str],
        on_status: Callable[[Status], None],
        connect_timeout: float | None,
        before: "Subscription | None" = None,
    ) -> None:
        self._machine = machine
        self._link = link
        self._names = names
        self._on_status = on_status
        self._connect_timeout = connect_timeout
        self._before = before  # closed first
        self._cause = ""
        self._pending: dict[str, Notification] = {}
        self._delivered = self._covered = since
        self._changed = asyncio.Event()
        self._error: BaseException | None = None
        self._driver: Driver | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def cursor(self) -> float:
        """Every notification up to this timestamp has been returned, or replaced by a newer one that is pending."""
        return self._delivered if self._pending else self._covered

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notification:
        """The next notification. Raises SignedOut, Forbidden, Unreachable (not in time at the start)."""
        if self._driver is None and not self._closed:
            await self._start()
        while not self._pending:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        first = min(self._pending.values(), key=lambda each: each.timestamp)
        del self._pending[first.name]
        self._delivered = min(first.timestamp, self._covered)
        return first

    def merge(self, notifications: list[Notification]) -> None:
        """Return these notifications as well, unless they are outdated."""
        if self._driver is not None:
            self._driver.feed(Merge(notifications))

    async def aclose(self) -> None:
        """Close all connections; the iteration ends."""
        self._closed = True
        self._changed.set()
        await self._close_before()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._driver is not None:
            await self._driver.close()

    async def _close_before(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            await before.aclose()

    async def _start(self) -> None:
        await self._close_before()
        self._driver = Driver(self._machine, self._link, self._names, self._act)
        if self._connect_timeout is not None:
            self._deadline = asyncio.get_running_loop().call_later(self._connect_timeout, self._not_in_time)
        self._driver.feed(Start())

    def _act(self, action: Apply | Status | Stop) -> None:
        match action:
            case Apply():
                self._apply(action)
            case Status():
                self._cause = action.cause or self._cause
                if action.online and self._deadline is not None:
                    self._deadline.cancel()
                self._on_status(action)
            case Stop(status, detail):
                crash = self._driver.error if self._driver else None
                self._end(crash or rejected(status, REFUSALS.get(status, ""), detail))

    def _apply(self, action: Apply) -> None:
        if action.restored:
            self._pending.clear()
            self._covered = 0.0
        if not self._pending:
            self._delivered = self._covered
        self._covered = action.cursor
        self._pending.update({each.name: each for each in action.notifications})
        self._changed.set()

    def _not_in_time(self) -> None:
        cause = f": {self._cause}" if self._cause else ""
        self._end(Unreachable(f"no response from {self._link.url} within {self._connect_timeout:g} s{cause}"))

    def _end(self, error: BaseException) -> None:
        self._error = error
        self._changed.set()


def milliseconds() -> float:
    """The event loop's monotonic clock."""
    return asyncio.get_running_loop().time() * 1000

"""One transport tried alone, until its first response or its failure."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from microblog_rt.client.connection import Connection, Operations
from microblog_rt.client.events import Action, Event, Notification, OperationEvent, Pause, Reason, Start, Status
from microblog_rt.client.link import Link
from microblog_rt.client.subscription import Driver, milliseconds
from microblog_rt.client.transports import TRANSPORTS


class Probed(NamedTuple):
    """Whether a transport works: the ms until its first response, or the HTTP status (0 without one) and the cause."""

    transport: str
    works: bool
    ms: float = 0.0
    status: int = 0
    cause: str = ""


class Probe:
    """A state machine with one connection, which reports the first response or the end as a ``Status``."""

    def __init__(self, transport: str, now: float) -> None:
        self._operations = Operations(now, random.random)
        self._connection = Connection(self._operations, transport, 0, self)
        self.reason = Reason()

    @property
    def due(self) -> float | None:
        return self._operations.clock.due

    def handle(self, event: Event, now: float) -> list[Action]:
        """As `Machine.handle`; only ``Start``, ``Pause`` and the events of operations."""
        self._operations.clock.advance(now)
        match event:
            case Start():
                self._connection.open(partial(TRANSPORTS[self._connection.name], self._operations))
            case Pause():
                self._connection.close()
            case _ if isinstance(event, OperationEvent):
                self._operations.dispatch(event)
        return self._operations.take_actions()

    def received(self, connection: Connection, notifications: Sequence[Notification], poll_after: float) -> None:
        self._operations.actions.append(Status(True, connection.name))

    def ended(self, connection: Connection, reason: Reason) -> None:
        self.reason = reason
        self._operations.actions.append(Status(False, connection.name, reason.detail))


async def probe(link: Link, transport: str) -> Probed:
    """Try one transport of a server."""
    finished: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
    began = milliseconds()
    machine = Probe(transport, began)

    def act(action: Action) -> None:
        if isinstance(action, Status) and not finished.done():
            finished.set_result(action)

    driver = Driver(machine, link, (), act)
    driver.feed(Start())
    try:
        status = await finished
    finally:
        await driver.close()
    return Probed(transport, status.online, milliseconds() - began, machine.reason.status, status.cause)

"""One connection: a transport, its cursor, and the deadline for its first response.

See also: ``transports.py``.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Protocol

from microblog_rt.client.events import (
    POLL,
    Action,
    Close,
    Closed,
    Failed,
    Notification,
    Open,
    OperationEvent,
    Reason,
    Response,
    Send,
)
from microblog_rt.client.timers import Clock, Random, Timer

FIRST_RESPONSE = 4_000.0

Handler = Callable[[OperationEvent], None]


class Operations:
    """The open operations of one machine, its clock, and the actions that its caller has to carry out."""

    def __init__(self, now: float, random: Random) -> None:
        self.clock = Clock(now)
        self.random = random
        self.actions: list[Action] = []
        self._handlers: dict[int, Handler] = {}
        self._numbers = itertools.count(1)

    def open(self, transport: str, since: float, handler: Handler, hold: int | None = None) -> int:
        """Open an operation; ``handler`` receives its events until it ends or is closed."""
        number = next(self._numbers)
        self._handlers[number] = handler
        self.actions.append(Open(number, transport, since, hold))
        return number

    def send(self, number: int, text: str) -> None:
        self.actions.append(Send(number, text))

    def close(self, number: int) -> None:
        """Close an operation, unless it has ended."""
        if self._handlers.pop(number, None) is not None:
            self.actions.append(Close(number))

    def dispatch(self, event: OperationEvent) -> None:
        """Pass an event to its operation; ignored after its end."""
        handler = self._handlers.get(event.id)
        if isinstance(event, Closed | Response | Failed):
            self._handlers.pop(event.id, None)
        if handler is not None:
            handler(event)

    def take_actions(self) -> list[Action]:
        actions, self.actions = self.actions, []
        return actions


class Transport(Protocol):
    """Requests what is newer than the cursor of its connection.

    It passes each array to ``receive``, and calls ``end`` once.
    """

    def close(self) -> None: ...


class Handlers(Protocol):
    """The owner of connections."""

    def received(self, connection: "Connection", notifications: Sequence[Notification], poll_after: float) -> None:
        """``poll_after``: the server wants no poll for that many ms."""

    def ended(self, connection: "Connection", reason: Reason) -> None: ...


class Connection:
    """A transport that is open until ``end`` or ``close``."""

    def __init__(self, operations: Operations, name: str, since: float, handlers: Handlers) -> None:
        self.name = name
        self.since = since
        self.opened_at = self.last_response_at = operations.clock.now
        self.first_response_at: float | None = None
        self.closed = False
        self._clock = operations.clock
        self._handlers = handlers
        self._deadline = Timer(operations.clock)
        self._transport: Transport | None = None

    def open(self, transport: Callable[["Connection"], Transport]) -> "Connection":
        # The poll has its own time-out, because there is no simpler transport.
        if self.name != POLL:
            late = Reason(timed_out=True, detail="no data within 4 s")
            self._deadline.set(FIRST_RESPONSE, lambda: self.end(late))
        self._transport = transport(self)
        return self

    def receive(self, notifications: Sequence[Notification], poll_after: float = 0.0) -> None:
        """Ignored after ``close``, like ``end``: no transport can deliver through a closed connection."""
        if self.closed:
            return
        self.last_response_at = self._clock.now
        if self.first_response_at is None:
            self.first_response_at = self._clock.now
        self._deadline.clear()
        self._handlers.received(self, notifications, poll_after)

    def end(self, reason: Reason) -> None:
        if self.closed:
            return
        self.close()
        self._handlers.ended(self, reason)

    def close(self) -> None:
        self.closed = True
        self._deadline.clear()
        if self._transport is not None:
            self._transport.close()

    @property
    def has_responded(self) -> bool:
        return self.first_response_at is not None

    @property
    def lifetime(self) -> float:
        """Milliseconds since the first response; 0 without one."""
        return 0.0 if self.first_response_at is None else self._clock.now - self.first_response_at

    @property
    def silence(self) -> float:
        """Milliseconds since the last response, or since it was opened."""
        return self._clock.now - self.last_response_at

    @property
    def was_suspended(self) -> bool:
        """Whether the deadline passed long ago: its timer did not run in time because the process was stopped."""
        return self._clock.now - self.opened_at > FIRST_RESPONSE + 1_000

"""The client's state machine: events in, actions out, no I/O, and a clock that is passed in.

It keeps one active connection, searches for a better one, and polls while there is none. It has the states
and transitions of the table in ``docs/protocol.md``, as ``static/rt/client.js`` has.
``tests/client_cases.json`` tests both.
"""

import random as chance
from collections.abc import Sequence
from functools import partial

from microblog_rt.client.connection import Connection, Operations
from microblog_rt.client.events import (
    BEST_FIRST,
    POLL,
    Action,
    Apply,
    Event,
    Merge,
    Notification,
    OperationEvent,
    Pause,
    Reason,
    Start,
    Status,
    Stop,
    Tick,
    Wake,
)
from microblog_rt.client.notification_filter import NotificationFilter
from microblog_rt.client.timers import LONGEST_WAIT, Backoff, Random, Timer, jitter
from microblog_rt.client.transport_choice import TransportChoice
from microblog_rt.client.transports import TRANSPORTS

GRACE = 1_000.0  # a quick reconnect needs no poll
POLL_RETRY = 5_000.0
NEW_SESSION = 300.0  # time for a new session to arrive
SILENT = 2_000.0
RESTART = 900.0  # another process of the server may be ready at once
USEFUL = 30_000.0


class Machine:
    """One client of one user, from the cursor ``since`` on.

    >>> from microblog_rt.client.events import Opened, Text
    >>> machine = Machine(since=1000.5, transports=["websocket", "poll"])
    >>> machine.handle(Start(), now=0)
    [Status(online=False, transport='', cause=''), Open(id=1, transport='websocket', since=1000.5, hold=None)]
    >>> machine.handle(Opened(1), now=5)
    []
    >>> machine.handle(Text(1, '[{"name": "x", "data": 1, "timestamp": 1001.5}]'), now=6)[0]
    Apply(notifications=[Notification(name='x', data=1, timestamp=1001.5)], cursor=1001.5, restored=False)
    >>> machine.state, machine.cursor, machine.due
    ('connected', 1001.5, 50006.0)
    """

    def __init__(
        self,
        since: float = 0,
        transports: Sequence[str] = BEST_FIRST,
        *,
        now: float = 0,
        random: Random = chance.random,
    ) -> None:
        """``transports``: best first, the last is the poll. ``now``: monotonic, in ms."""
        self.state = "idle"  # read only
        self.cursor = since  # read only
        self._operations = Operations(now, random)
        clock = self._operations.clock
        self._clock = clock
        self._random = random
        self._filter = NotificationFilter(since)
        self._choice = TransportChoice(clock, transports)
        self._backoff = Backoff(random)
        self._active: Connection | None = None  # the only connection that moves the cursor
        self._candidate: Connection | None = None  # becomes the active connection with its first response
        self._stream_timer = Timer(clock)  # opens the next candidate
        self._poll_timer = Timer(clock)  # sends the next poll while no connection is active
        self._better_timer = Timer(clock)  # tries a better transport
        self._no_stream_before = 0.0  # Retry-After
        self._no_poll_before = 0.0  # Retry-After, Poll-After
        self._status: Status | None = None

    @property
    def due(self) -> float | None:
        """When to pass ``Tick`` unless there is another event before; None without a timer."""
        return self._clock.due

    def handle(self, event: Event, now: float) -> list[Action]:
        """The actions after an event at the time ``now``, to be carried out in order."""
        self._clock.advance(now)
        match event:
            case Start():
                self._start()
            case Pause():
                if self.state != "stopped":
                    self._close("idle")
            case Wake(network_changed):
                self._wake(network_changed)
            case Merge(notifications):
                self._apply(self._filter.merge(notifications))
            case Tick():
                pass
            case _:
                self._dispatch(event)
        self._clock.advance(now)  # timers that were set for now
        return self._operations.take_actions()

    def _dispatch(self, event: OperationEvent) -> None:
        self._operations.dispatch(event)

    def _start(self) -> None:
        if self.state == "stopped":
            self._wake(False)
        if self.state != "idle":
            return
        self.state = "searching"
        self._report(Status(False))
        self._open_in(0)
        self._poll_in(GRACE)
        self._schedule_better()

    def _wake(self, network_changed: bool) -> None:
        if self.state == "idle":
            return
        if self.state == "stopped":
            self.state = "asking"
        self._close_unanswered()
        # A socket may be dead without a close event: a second one is opened, and replaces it with its first response.
        active = self._active
        if network_changed or active is None or active.name != self._choice.best or active.silence > SILENT:
            self._open_in(0)
        self._poll_in(0)
        self._settle()

    def _close_unanswered(self) -> None:
        """Connections still without a response, possibly from another network, must not delay the next attempt."""
        if self._clock.now < self._no_stream_before:
            return  # there is no next attempt yet
        for connection in (self._active, self._candidate):
            if connection is not None and not connection.has_responded and connection.silence > GRACE:
                connection.close()
        if self._active is not None and self._active.closed:
            self._active = None
        if self._candidate is not None and self._candidate.closed:
            self._candidate = None

    def _open_in(self, ms: float) -> None:
        if self.state != "asking":
            self._stream_timer.set(ms, self._open_candidate)

    def _search(self, at_once: bool, ms: float | None = None) -> None:
        """Open the best transport at once, or after ``ms`` unless an attempt is pending."""
        if self._candidate is not None or (self._active is not None and self._active.name == self._choice.best):
            return
        if at_once:
            self._open_in(0)
        elif not self._stream_timer.pending:
            self._open_in(self._backoff.next() if ms is None else ms)

    def _open_candidate(self) -> None:
        wait = self._no_stream_before - self._clock.now
        if wait > 0:
            return self._open_in(wait)
        if self._choice.best == POLL:
            self._poll_in(0)
        elif self._candidate is None:
            self._candidate = self._open(self._choice.best)
        return self._settle()

    def _poll_in(self, ms: float) -> None:
        if self._active is None:
            self._poll_timer.set(max(ms, self._no_poll_before - self._clock.now), self._open_poll)

    def _open_poll(self) -> None:
        self._active = self._open(POLL)

    def _open(self, name: str) -> Connection:
        connection = Connection(self._operations, name, self.cursor, self)
        return connection.open(partial(TRANSPORTS[name], self._operations))

    def received(self, connection: Connection, notifications: Sequence[Notification], poll_after: float) -> None:
        """An open connection has received an array; called by the connection."""
        self._choice.responded(connection.name)
        if connection is self._candidate:
            self._activate(connection)
        if poll_after:
            self._no_poll_before = self._clock.now + poll_after
        if self.state == "asking":
            self.state = "searching"
        self._search(False)
        self._settle()
        newer, restored = self._filter.follow(notifications, connection.since)
        connection.since = self.cursor = notifications[-1].timestamp if notifications else connection.since
        self._apply(newer, restored)
        self._report(Status(True, connection.name))

    def _activate(self, candidate: Connection) -> None:
        if self._active is not None:
            self._active.close()
        self._active = candidate
        self._candidate = None
        self._stream_timer.clear()
        self._poll_timer.clear()

    def ended(self, connection: Connection, reason: Reason) -> None:
        """An open connection has ended; called by the connection."""
        if reason.status in (401, 403):
            return self._refused(reason)
        self._release(connection, reason)
        now, is_poll = self._clock.now, connection.name == POLL
        until = now + min(reason.wait, LONGEST_WAIT)
        if reason.wait:
            self._no_stream_before = until
            # Polls go on while streams are refused.
            if is_poll or connection.has_responded or reason.status == 429:
                self._no_poll_before = until
        if connection.lifetime >= USEFUL and not is_poll:
            self._backoff.reset()
        at_once = self._choice.ended(connection, reason, self._active)
        self._search(at_once, RESTART * self._random() if reason.restarts else None)
        # The status of a poll tells why a stream was refused.
        self._poll_in(jitter(self._random, POLL_RETRY) if is_poll else GRACE if connection.has_responded else 0)
        self._schedule_better()
        return self._settle()

    def _refused(self, reason: Reason) -> None:
        """There may be a new session by now (a new password starts one). A poll uses it, or is refused as well."""
        if self.state != "asking":
            self._close("asking")
            return self._poll_in(NEW_SESSION)
        self._close("stopped")
        return self._operations.actions.append(Stop(reason.status, reason.detail))

    def _release(self, connection: Connection, reason: Reason) -> None:
        active = self._active
        if connection is active:
            self._active = None
            self._report(Status(False, cause=f"{connection.name}: {reason.detail}"))
            return
        self._candidate = None
        # A candidate of the active transport was opened because the active connection was doubtful. It still is.
        if active is not None and active.name == connection.name and active.last_response_at < connection.opened_at:
            active.end(Reason(detail=reason.detail))

    def _settle(self) -> None:
        if self.state == "asking":
            return
        if self._active is None or not self._active.has_responded:
            self.state = "searching"
        elif self._active.name != self._choice.best:
            self.state = "fallback"
        else:
            self.state = "connected" if self._candidate is None else "probing"

    def _schedule_better(self) -> None:
        if self._choice.left is None:
            return self._better_timer.clear()
        return self._better_timer.set(self._choice.left, self._try_better)

    def _try_better(self) -> None:
        self._choice.reset()
        self._search(True)
        self._settle()

    def _close(self, state: str) -> None:
        self.state = state
        for timer in (self._stream_timer, self._poll_timer, self._better_timer):
            timer.clear()
        for connection in (self._active, self._candidate):
            if connection is not None:
                connection.close()
        self._active = self._candidate = None

    def _apply(self, notifications: list[Notification], restored: bool = False) -> None:
        if notifications:
            self._operations.actions.append(Apply(notifications, self.cursor, restored))

    def _report(self, status: Status) -> None:
        if status != self._status:
            self._status = status
            self._operations.actions.append(status)

"""The four transports without I/O: WebSocket, SSE, long poll, poll.

See also: ``connection.py`` for their interface, ``static/rt/websocket.js``, ``sse.js``, ``longpoll.js``, ``poll.js``.
"""

import math
from collections.abc import Callable

from microblog_rt.client.connection import Connection, Operations, Transport
from microblog_rt.client.event_stream import EventStream
from microblog_rt.client.events import (
    LONGPOLL,
    POLL,
    SSE,
    WEBSOCKET,
    Closed,
    Failed,
    Opened,
    OperationEvent,
    Reason,
    Response,
    Text,
    parse,
)
from microblog_rt.client.responses import Answer, Request, close_reason, milliseconds, refusal_reason
from microblog_rt.client.timers import Timer, jitter

HEARTBEAT = 20_000.0  # of a server that does not send its own
SILENCE = 2.5  # heartbeats
ACKNOWLEDGE_EVERY = 1_000.0
HOLD = 25  # seconds: below the usual proxy time-out of 30 s
MARGIN = 5_000.0
TOO_SOON = 1_000.0
POLL_TIMEOUT = 10_000.0
EVENT_STREAM = "text/event-stream"


class Watched:
    """A connection that stays open, and ends if it is silent."""

    _id: int

    def __init__(self, operations: Operations, connection: Connection) -> None:
        self._operations = operations
        self._connection = connection
        self._watch = SilenceWatch(operations, self._end)

    def close(self) -> None:
        self._watch.close()
        self._operations.close(self._id)

    def _end(self, reason: Reason) -> None:
        self.close()
        self._connection.end(reason)


class WebSocket(Watched):
    """Each frame has the body of a poll's response; heartbeats are acknowledged."""

    def __init__(self, operations: Operations, connection: Connection) -> None:
        super().__init__(operations, connection)
        self._first = True
        self._acknowledged_at = self._measured_at = -math.inf
        self._id = operations.open(WEBSOCKET, connection.since, self._event)

    def _event(self, event: OperationEvent) -> None:
        match event:
            case Opened():
                self._watch.opened(event)
            case Text():
                self._watch.restart()
                self._frame(event.text)
            case Closed():
                self._end(close_reason(event.code, event.reason))
            case Response():
                self._end(refusal_reason(event))
            case Failed():
                self._end(Reason(detail=event.error))

    def _frame(self, text: str) -> None:
        try:
            notifications = parse(text)
        except ValueError as error:
            return self._end(Reason(detail=str(error)))
        if notifications is None:
            return None
        is_first, self._first = self._first, False
        self._connection.receive(notifications)
        now = self._operations.clock.now
        if is_first or now - self._acknowledged_at < ACKNOWLEDGE_EVERY:
            return None
        if notifications:
            # The server measures the delivery time by this acknowledgement; one per heartbeat is enough.
            if now - self._measured_at < self._watch.heartbeat:
                return None
            self._measured_at = now
        self._acknowledged_at = now
        return self._operations.send(self._id, repr(self._connection.since))


class Stream(Watched):
    """Server-sent events: each is one notification; comments are heartbeats."""

    def __init__(self, operations: Operations, connection: Connection) -> None:
        super().__init__(operations, connection)
        self._parser = EventStream()
        self._id = operations.open(SSE, connection.since, self._event)

    def _event(self, event: OperationEvent) -> None:
        match event:
            case Opened():
                self._watch.opened(event)
                if not event.headers.get("content-type", "").startswith(EVENT_STREAM):
                    self._end(Reason(detail="the response is not an event stream"))
            case Text():
                self._watch.restart()
                # Also when the part has no event: a comment is a heartbeat.
                self._connection.receive(self._parser.push(event.text))
            case Closed():
                restarts = self._parser.restarts
                self._end(Reason(503 if restarts else 0, restarts=restarts, detail="the stream ended"))
            case Response():
                self._end(refusal_reason(event))
            case Failed():
                self._end(Reason(detail=event.error))


class SilenceWatch:
    """Ends a connection that has received nothing for 2.5 heartbeats."""

    def __init__(self, operations: Operations, end: Callable[[Reason], None]) -> None:
        self.heartbeat = HEARTBEAT
        self._timer = Timer(operations.clock)
        self._finish = end
        self.restart()

    def opened(self, event: Opened) -> None:
        """Use the heartbeat of the server."""
        self.heartbeat = milliseconds(event.headers, "heartbeat") or HEARTBEAT
        self.restart()

    def restart(self) -> None:
        late = Reason(detail="nothing received for 2.5 heartbeats")
        self._timer.set(SILENCE * self.heartbeat, lambda: self._finish(late))

    def close(self) -> None:
        self._timer.clear()


class LongPoll:
    """The server holds each request until there are notifications; not the first, so that its health is known."""

    def __init__(self, operations: Operations, connection: Connection) -> None:
        self._operations = operations
        self._connection = connection
        self._timer = Timer(operations.clock)
        self._next(0)

    def close(self) -> None:
        self._timer.clear()
        self._request.close()

    def _next(self, hold: int) -> None:
        clock = self._operations.clock
        earliest = clock.now + TOO_SOON if hold else 0

        def received(answer: Answer) -> None:
            if answer.reason.status != 200:
                return self._connection.end(answer.reason)
            # A server that answers without holding must not be requested in a tight loop.
            too_soon = clock.now < earliest and not answer.notifications
            self._timer.set(answer.poll_after if too_soon else 0, lambda: self._next(HOLD))
            return self._connection.receive(answer.notifications)

        timeout = hold * 1000 + MARGIN
        self._request = Request(self._operations, LONGPOLL, self._connection.since, timeout, received, hold)


class Poll:
    """One request after the other, at the interval that the server wants."""

    def __init__(self, operations: Operations, connection: Connection) -> None:
        self._operations = operations
        self._connection = connection
        self._timer = Timer(operations.clock)
        self._next()

    def close(self) -> None:
        self._timer.clear()
        self._request.close()

    def _next(self) -> None:
        self._request = Request(self._operations, POLL, self._connection.since, POLL_TIMEOUT, self._received)

    def _received(self, answer: Answer) -> None:
        if answer.reason.status != 200:
            return self._connection.end(answer.reason)
        self._timer.set(jitter(self._operations.random, answer.poll_after), self._next)
        return self._connection.receive(answer.notifications, answer.poll_after)


TRANSPORTS: dict[str, Callable[[Operations, Connection], Transport]] = {
    WEBSOCKET: WebSocket,
    SSE: Stream,
    LONGPOLL: LongPoll,
    POLL: Poll,
}

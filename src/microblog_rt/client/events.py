"""The vocabulary of the client's state machine: notifications, events, actions.

Every WebSocket, stream and request is an *operation* with a number. Headers are those of HTTP with names in lower case.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

WEBSOCKET, SSE, LONGPOLL, POLL = "websocket", "sse", "longpoll", "poll"
BEST_FIRST = (WEBSOCKET, SSE, LONGPOLL, POLL)


class Notification(NamedTuple):
    """The latest state of one name: ``data`` is any JSON value, ``timestamp`` Unix time in seconds and a cursor."""

    name: str
    data: Any
    timestamp: float


def parse(text: str) -> list[Notification] | None:
    """The notifications of a frame or a response; None for JSON that is not an array, or for invalid JSON.

    Raises ValueError for an array of anything else.

    >>> parse('[{"name": "unread_message_count", "data": 1, "timestamp": 1000.5}]')
    [Notification(name='unread_message_count', data=1, timestamp=1000.5)]
    >>> parse('{"reserved": true}') is None
    True
    """
    try:
        items = json.loads(text)
    except ValueError:
        return None
    return [notification(each) for each in items] if isinstance(items, list) else None


def notification(item: Any) -> Notification:
    """One notification from its JSON object. Raises ValueError."""
    try:
        name, data, timestamp = item["name"], item["data"], item["timestamp"]
    except (TypeError, KeyError, IndexError):
        raise ValueError("not a notification") from None
    if not isinstance(name, str) or isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        raise ValueError("not a notification")
    return Notification(name, data, timestamp)


@dataclass(frozen=True, slots=True)
class Start:
    """Search for a connection; in the state ``stopped``, ask once more."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Close all connections. ``Start`` continues from the same cursor."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Try again without backoff, and probe a connection that is silent or may use another network."""

    network_changed: bool = False


@dataclass(frozen=True, slots=True)
class Merge:
    """Apply the newer values of another response. The cursor does not move."""

    notifications: list[Notification]


@dataclass(frozen=True, slots=True)
class Tick:
    """The time has advanced."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A handshake was accepted, or the headers of a stream have arrived."""

    id: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Text:
    """A text frame of a WebSocket, or a part of a stream."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """An open WebSocket or stream has ended; ``code`` is 1006 without a close frame."""

    id: int
    code: int = 1006
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a request, or to a handshake that was refused."""

    id: int
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A connection could not be opened, or ended in the middle of a response."""

    id: int
    error: str = ""


OperationEvent = Opened | Text | Closed | Response | Failed
Event = Start | Pause | Wake | Merge | Tick | OperationEvent


@dataclass(frozen=True, slots=True)
class Open:
    """Open a WebSocket or a stream, or send a request; ``hold`` is the ``wait`` of a long poll in seconds."""

    id: int
    transport: str
    since: float
    hold: int | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text frame on an open WebSocket."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close an operation that has not ended."""

    id: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Pass notifications to the application, in ascending order of their timestamps; ``cursor`` covers them.

    ``restored``: the server's clock was set back, and these notifications replace everything before.
    """

    notifications: list[Notification]
    cursor: float
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the connection has changed: ``online`` by a transport, or ``reconnecting`` with the cause."""

    online: bool
    transport: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """The application has refused, and a poll has confirmed it: 401 signed out, 403 not allowed."""

    status: int
    detail: str = ""


Action = Open | Send | Close | Apply | Status | Stop


class Reason(NamedTuple):
    """Why an operation has ended.

    ``status`` is the HTTP status that the poll would have got (0: no valid response; 401 and 403 are the application's
    own), ``wait`` the ms to wait before the next request, if the server gave them.
    """

    status: int = 0
    wait: float = 0.0
    restarts: bool = False
    timed_out: bool = False
    detail: str = ""

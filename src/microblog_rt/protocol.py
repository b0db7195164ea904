"""The wire, without I/O: notifications, signals, frames, cursors and acknowledgements.

A cursor is an integer of microseconds since 1970 here, and a number of seconds on the wire. JSON doubles represent
microseconds exactly until 2106.
"""

import json
import math
import re
import time
from collections.abc import Iterable
from functools import cached_property
from typing import Any

MICROSECONDS = 1_000_000
LONGEST_WAIT = 30.0
FURTHEST = 2**63 - 1


class Notification:
    """One notification as clients receive it: name, data as JSON text, timestamp in microseconds."""

    def __init__(self, name: str, payload_json: str, timestamp: int) -> None:
        self.name = name
        self.payload_json = payload_json
        self.timestamp = timestamp

    @cached_property
    def wire(self) -> str:
        """The notification as a JSON object, encoded once for all tabs."""
        head = f'{{"name": {json.dumps(self.name)}, "data": {self.payload_json}'
        return f'{head}, "timestamp": {seconds(self.timestamp)}}}'

    @property
    def data(self) -> Any:
        return json.loads(self.payload_json)

    def __repr__(self) -> str:
        return f"Notification({self.name!r}, {self.payload_json}, {self.timestamp})"


class Signal:
    """A user's clock has reached ``clock``; may carry the one notification that followed the reading ``follows``.

    A subscriber whose position is ``follows`` passes the notification on without a read; any other reads.
    """

    __slots__ = ("clock", "follows", "notification", "user_id")

    def __init__(
        self, user_id: int, clock: int, follows: int | None = None, notification: Notification | None = None
    ) -> None:
        self.user_id = user_id
        self.clock = clock
        self.follows = follows
        self.notification = notification


def frame(notifications: Iterable[Notification]) -> str:
    """The JSON array that is both the body of a poll and a WebSocket text frame."""
    return "[" + ", ".join([each.wire for each in notifications]) + "]"


def seconds(cursor: int) -> str:
    """A cursor as JSON: Unix seconds that parse to the same microsecond."""
    return repr(cursor / MICROSECONDS)


def age(notification: Notification) -> float:
    """Seconds since ``notification`` was stamped, as far as the hosts' clocks agree."""
    return age_of(notification.timestamp)


def age_of(timestamp: int) -> float:
    """Seconds since ``timestamp``, as far as the hosts' clocks agree."""
    return time.time() - timestamp / MICROSECONDS


CURSOR = re.compile(r"[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?")


def parse_cursor(text: str) -> int:
    """A client's cursor, rounded to microseconds. Raises ValueError unless it is a finite number, 0 or more."""
    if not CURSOR.fullmatch(text):
        raise ValueError("not a number of seconds")
    value = float(text) * MICROSECONDS
    if not math.isfinite(value):
        raise ValueError("not finite")
    return min(round(value), FURTHEST)


NUMBER = re.compile(r"[ \t\n\r]*-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?[ \t\n\r]*")


def is_acknowledgement(text: str) -> bool:
    """Whether a client's frame is a bare, finite JSON number."""
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def acknowledged(text: str) -> int:
    """The cursor of an acknowledgement."""
    return round(min(max(float(text), 0.0) * MICROSECONDS, FURTHEST))

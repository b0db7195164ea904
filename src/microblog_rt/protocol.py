"""The wire, without I/O: notifications, frames, cursors, acknowledgements, and the signal-ups between processes.

A cursor is an int here, microseconds since 1970, and float seconds on the wire; doubles carry microseconds
exactly until 2106. Not here: where notifications come from (``feed.py``) and how they travel (``web/``, ``bus/``).
"""

import json
import math
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

MICROSECONDS = 1_000_000
LONGEST_WAIT = 30.0
FURTHEST = 2**63 - 1


class Notification:
    """One notification as a client is told it: its name, its data as JSON text, its cursor in microseconds."""

    def __init__(self, name: str, payload_json: str, timestamp: int) -> None:
        self.name = name
        self.payload_json = payload_json
        self.timestamp = timestamp

    @cached_property
    def wire(self) -> str:
        """The notification as a JSON object; made once, however many tabs are told."""
        head = f'{{"name": {json.dumps(self.name)}, "data": {self.payload_json}'
        return f'{head}, "timestamp": {seconds(self.timestamp)}}}'

    @property
    def data(self) -> Any:
        return json.loads(self.payload_json)

    def __repr__(self) -> str:
        return f"Notification({self.name!r}, {self.payload_json}, {self.timestamp})"


class Signal:
    """Word that a user's clock has reached ``clock``; may carry the one notification that followed ``follows``.

    A subscriber that stands at ``follows`` may hand the notification on without a read; any other reads.
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
    """The JSON array that is both a poll's body and a WebSocket's text frame."""
    return "[" + ", ".join([each.wire for each in notifications]) + "]"


def seconds(cursor: int) -> str:
    """A cursor as JSON: Unix seconds that read back to the same microsecond."""
    return repr(cursor / MICROSECONDS)


def cursor_of(moment: datetime) -> int:
    """The cursor that an aware datetime stands for."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def age(notification: Notification) -> float:
    """How long ago ``notification`` was stamped, in seconds, as far as the clocks of its hosts agree."""
    return time.time() - notification.timestamp / MICROSECONDS


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CURSOR = re.compile(r"[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?")


def parse_cursor(text: str) -> int:
    """A client's cursor in microseconds, to the nearest; raises ValueError unless finite and not negative."""
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

"""The wire, without I/O: notices, frames, cursors, acknowledgements, and the wake-ups between processes.

A cursor is an int here, microseconds since 1970, and float seconds on the wire; doubles carry microseconds
exactly until 2106. Not here: where notices come from (``feed.py``) and how they travel (``web/``, ``bus/``).
"""

import json
import math
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

UNREAD_MESSAGE_COUNT = "unread_message_count"

MICROSECONDS = 1_000_000
LONGEST_WAIT = 30.0
FURTHEST = 2**63 - 1


class Notice:
    """One notification as a client is told it: its name, its data as JSON text, its cursor in microseconds."""

    def __init__(self, name: str, payload_json: str, timestamp: int) -> None:
        self.name = name
        self.payload_json = payload_json
        self.timestamp = timestamp

    @cached_property
    def wire(self) -> str:
        """The notice as a JSON object; made once, however many tabs are told."""
        head = f'{{"name": {json.dumps(self.name)}, "data": {self.payload_json}'
        return f'{head}, "timestamp": {seconds(self.timestamp)}}}'

    @property
    def data(self) -> Any:
        return json.loads(self.payload_json)

    def __repr__(self) -> str:
        return f"Notice({self.name!r}, {self.payload_json}, {self.timestamp})"


class Wake:
    """Word that a user's clock has reached ``clock``; may carry the one notice that followed ``follows``.

    A listener that stands at ``follows`` may hand the notice on without a read; any other reads.
    """

    __slots__ = ("clock", "follows", "notice", "user_id")

    def __init__(self, user_id: int, clock: int, follows: int | None = None, notice: Notice | None = None) -> None:
        self.user_id = user_id
        self.clock = clock
        self.follows = follows
        self.notice = notice


def frame(notices: Iterable[Notice]) -> str:
    """The JSON array that is both a poll's body and a WebSocket's text frame."""
    return "[" + ", ".join([each.wire for each in notices]) + "]"


def seconds(cursor: int) -> str:
    """A cursor as JSON: Unix seconds that read back to the same microsecond."""
    return repr(cursor / MICROSECONDS)


def cursor_of(moment: datetime) -> int:
    """The cursor that an aware datetime stands for."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def age(notice: Notice) -> float:
    """How long ago ``notice`` was stamped, in seconds, as far as the clocks of its hosts agree."""
    return time.time() - notice.timestamp / MICROSECONDS


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

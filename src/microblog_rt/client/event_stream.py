"""Server-sent events whose data are notifications, parsed without I/O. See also: ``static/rt/sse.js``."""

import json
import re

from microblog_rt.client.events import Notification, notification

LINE_END = re.compile(r"\r\n|\r|\n")


class EventStream:
    """Parses a stream that arrives in parts.

    The server sends ``retry`` once at the beginning, and again as the last line before it ends a stream in order to
    restart: then ``restarts`` is true.

    >>> stream = EventStream()
    >>> stream.push('retry: 1500\\ndata: {"name": "x", "data": 1, "timestamp": 1001.5}\\n\\nret')
    [Notification(name='x', data=1, timestamp=1001.5)]
    >>> stream.push("ry: 300\\n"), stream.restarts
    ([], True)
    """

    def __init__(self) -> None:
        self.restarts = False
        self._retries = 0
        self._line = ""  # without its end
        self._ended_with_return = False
        self._data: list[str] = []
        self._event = ""

    def push(self, text: str) -> list[Notification]:
        """The notifications of the events that ``text`` completes."""
        if text:
            rest = text.removeprefix("\n") if self._ended_with_return else text
            self._ended_with_return = text.endswith("\r")
            *lines, self._line = LINE_END.split(self._line + rest)
            return [each for line in lines for each in (self._field(line) if line else self._complete())]
        return []

    def _field(self, line: str) -> list[Notification]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "retry":
            self._retries += 1
        self.restarts = name == "retry" and self._retries > 1
        return []

    def _complete(self) -> list[Notification]:
        """The notification of an event, if it is one. Events with a name are reserved for extensions."""
        data, event = "\n".join(self._data), self._event
        self._data, self._event = [], ""
        try:
            return [] if event else [notification(json.loads(data))]
        except ValueError:
            return []

"""The formats of a streamed response: server-sent events and JSON lines.

Clients select one with ``Accept``. See also: ``http_stream.py`` and ``push/event_stream.py``, which send them.
"""

import random
import re
from collections.abc import Iterable

from microblog_rt import metrics, protocol
from microblog_rt.errors import Unavailable
from microblog_rt.protocol import Notification
from microblog_rt.web.problems import JSON, RECONNECT_WITHIN, retry_milliseconds

SOONEST = 1000  # milliseconds, before a client of server-sent events reconnects

QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

Headers = list[tuple[bytes, bytes]]


class Format:
    """How a stream is written. ``heartbeat`` and what the methods return are whole lines."""

    media_type: str
    transport: str  # its name in the metrics
    heartbeat: bytes

    def __init__(self) -> None:
        self.gauge = metrics.STREAMS[self.transport]
        self.deliveries = metrics.DELIVERIES[self.transport]

    def opening(self) -> bytes:
        """The beginning of every stream; a client that receives it knows that data arrives."""
        raise NotImplementedError

    def encode(self, found: Iterable[Notification]) -> bytes:
        """The notifications, in order."""
        raise NotImplementedError

    def ending(self, error: Exception) -> bytes:
        """The end of a stream that ``error`` ends; empty if there is nothing to tell the client."""
        raise NotImplementedError


class ServerSentEvents(Format):
    """``text/event-stream`` (WHATWG HTML, 9.2). The id of an event is its notification's timestamp.

    Lines that are no event are not followed by an empty line: some clients would report an event without data.
    """

    media_type = "text/event-stream"
    transport = "sse"
    heartbeat = b":\n"

    def opening(self) -> bytes:
        # Browsers keep the last ``retry``, which may be that of a drain. Random, so that clients return spread out.
        return b":\nretry: %d\n" % (SOONEST + random.randrange(RECONNECT_WITHIN))  # noqa: S311

    def encode(self, found: Iterable[Notification]) -> bytes:
        events = [f"id: {protocol.seconds(each.timestamp)}\ndata: {each.wire}\n\n" for each in found]
        return "".join(events).encode()

    def ending(self, error: Exception) -> bytes:
        return b"retry: %d\n" % retry_milliseconds(error) if isinstance(error, Unavailable) else b""


class JsonLines(Format):
    """``application/x-ndjson``: one notification per line."""

    media_type = "application/x-ndjson"
    transport = "ndjson"
    heartbeat = b"\n"

    def opening(self) -> bytes:
        return b"\n"

    def encode(self, found: Iterable[Notification]) -> bytes:
        return "".join([each.wire + "\n" for each in found]).encode()

    def ending(self, error: Exception) -> bytes:
        return b""


SSE, NDJSON = ServerSentEvents(), JsonLines()
FORMATS: tuple[Format, ...] = (SSE, NDJSON)
OFFERED: dict[str, Format | None] = {JSON: None, **{each.media_type: each for each in FORMATS}}


def requested(headers: Headers) -> Format | None:
    """The format that ``Accept`` selects; None: the JSON array of a poll.

    Only exact media types select a format: that with the highest quality above 0, of equal ones the first.
    """
    accepted = b",".join([value for name, value in headers if name == b"accept"]).decode("latin-1").lower()
    best, highest = None, 0.0
    for media_range in accepted.split(","):
        media_type, *parameters = [each.strip() for each in media_range.split(";")]
        if media_type in OFFERED and (quality := _quality(parameters)) > highest:
            best, highest = OFFERED[media_type], quality
    return best


def _quality(parameters: list[str]) -> float:
    """The quality among the parameters of a media range; 0 if it is malformed."""
    sent = [each for each in parameters if each.startswith("q=")]
    if not sent:
        return 1.0
    found = QUALITY.fullmatch(sent[0])
    return float(found[1]) if found else 0.0

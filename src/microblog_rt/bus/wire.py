"""A signal as bytes: compact JSON, with the random name of the process that published it.

    [origin, user_id, clock, follows, [name, payload_json, timestamp]]

``follows`` and the notification may be null.
"""

import json

from microblog_rt.protocol import FURTHEST, Notification, Signal

MAX_BYTES = 4096  # a larger signal is sent without its notification


def pack(origin: str, signal: Signal) -> bytes:
    """Encode ``signal`` as published by ``origin``, in at most ``MAX_BYTES``."""
    packed = _encode(origin, signal, signal.notification)
    return packed if len(packed) <= MAX_BYTES else _encode(origin, signal, None)


def unpack(packed: bytes) -> tuple[str, Signal]:
    """Return the origin and the signal; raise ValueError for anything that ``pack`` cannot have produced."""
    if len(packed) > MAX_BYTES:
        raise ValueError("too large")
    try:
        match json.loads(packed):
            case [str(origin), int(user_id), int(clock), int() | None as follows, None]:
                return origin, Signal(user_id, clock, follows)
            case [str(origin), int(user_id), int(clock), int() | None as follows, [str(name), str(data), int(stamp)]]:
                # The payload is copied into clients' frames, and the timestamp moves their cursors.
                json.loads(data)
                if 0 <= stamp <= clock <= FURTHEST:
                    return origin, Signal(user_id, clock, follows, Notification(name, data, stamp))
    except RecursionError:
        pass
    raise ValueError("not a signal")


def _encode(origin: str, signal: Signal, notification: Notification | None) -> bytes:
    fields = notification and [notification.name, notification.payload_json, notification.timestamp]
    return json.dumps([origin, signal.user_id, signal.clock, signal.follows, fields], separators=(",", ":")).encode()

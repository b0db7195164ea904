"""A signal-up as it crosses from one process to another: compact JSON, with the random name of who published it.

    [origin, user_id, clock, follows, [name, payload_json, timestamp]]

``follows`` and the notification may be null. Not here: how it travels (a file per backend).
"""

import json

from microblog_rt.protocol import FURTHEST, Notification, Signal

LARGEST = 4096  # bytes; what would be larger goes without its notification


def pack(origin: str, signal: Signal) -> bytes:
    """``signal`` as ``origin`` tells it."""
    packed = _packed(origin, signal, signal.notification)
    return packed if len(packed) <= LARGEST else _packed(origin, signal, None)


def unpack(packed: bytes) -> tuple[str, Signal]:
    """Who tells, and what; raises ValueError for whatever is none of ours."""
    if len(packed) > LARGEST:
        raise ValueError("too large")
    try:
        match json.loads(packed):
            case [str(origin), int(user_id), int(clock), int() | None as follows, None]:
                return origin, Signal(user_id, clock, follows)
            case [str(origin), int(user_id), int(clock), int() | None as follows, [str(name), str(data), int(stamp)]]:
                # It goes into clients' frames, and moves their cursors, as it is.
                json.loads(data)
                if 0 <= stamp <= clock <= FURTHEST:
                    return origin, Signal(user_id, clock, follows, Notification(name, data, stamp))
    except RecursionError:
        pass
    raise ValueError("no signal-up")


def _packed(origin: str, signal: Signal, notification: Notification | None) -> bytes:
    told = notification and [notification.name, notification.payload_json, notification.timestamp]
    return json.dumps([origin, signal.user_id, signal.clock, signal.follows, told], separators=(",", ":")).encode()

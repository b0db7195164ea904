"""A wake-up as it crosses from one process to another: compact JSON, with the random name of who published it.

    [origin, user_id, clock, follows, [name, payload_json, timestamp]]

``follows`` and the notice may be null. Not here: how it travels (a file per backend).
"""

import json

from microblog_rt.protocol import FURTHEST, Notice, Wake

LARGEST = 4096  # bytes; what would be larger goes without its notice


def pack(origin: str, wake: Wake) -> bytes:
    """``wake`` as ``origin`` tells it."""
    packed = _packed(origin, wake, wake.notice)
    return packed if len(packed) <= LARGEST else _packed(origin, wake, None)


def unpack(packed: bytes) -> tuple[str, Wake]:
    """Who tells, and what; raises ValueError for whatever is none of ours."""
    if len(packed) > LARGEST:
        raise ValueError("too large")
    try:
        match json.loads(packed):
            case [str(origin), int(user_id), int(clock), int() | None as follows, None]:
                return origin, Wake(user_id, clock, follows)
            case [str(origin), int(user_id), int(clock), int() | None as follows, [str(name), str(data), int(stamp)]]:
                # It goes into clients' frames, and moves their cursors, as it is.
                json.loads(data)
                if 0 <= stamp <= clock <= FURTHEST:
                    return origin, Wake(user_id, clock, follows, Notice(name, data, stamp))
    except RecursionError:
        pass
    raise ValueError("no wake-up")


def _packed(origin: str, wake: Wake, notice: Notice | None) -> bytes:
    told = notice and [notice.name, notice.payload_json, notice.timestamp]
    return json.dumps([origin, wake.user_id, wake.clock, wake.follows, told], separators=(",", ":")).encode()

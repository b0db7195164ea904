"""The security log: one line for each event, with who, from where and what. No secrets.

A line is the event's name and ``name=value`` pairs, each value in JSON. Each process writes at most ``MOST`` lines of
an event in ``PERIOD`` seconds; the number of those left out follows with the next event of any name.
"""

import json
import logging
import time
from collections import Counter
from contextvars import ContextVar
from logging.handlers import SysLogHandler
from pathlib import Path

Value = str | int | None

log = logging.getLogger("microblog_rt.security")

SYSTEM_LOG = "/dev/log"
PERIOD = 60  # seconds
MOST = 100
LONGEST = 200  # characters of a value

origin: ContextVar[str] = ContextVar("origin", default="")  # the client's address, or "command line"

_counts: Counter[str] = Counter()
_began = float("-inf")


def note(event: str, **details: Value) -> None:
    """Log an event; ``address`` is the client's of the current request unless given."""
    if _admits(event):
        address: dict[str, Value] = {"address": origin.get() or None}
        _write(event, address | details)


def system_log() -> logging.Handler:
    """The system's log, or standard error where there is none, as in a container."""
    if Path(SYSTEM_LOG).exists():
        handler: logging.Handler = SysLogHandler(SYSTEM_LOG, SysLogHandler.LOG_AUTHPRIV)
        handler.setFormatter(logging.Formatter("microblog-rt: %(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def _admits(event: str) -> bool:
    global _began
    if time.monotonic() - _began >= PERIOD:
        _began = time.monotonic()
        left_out = {name: count - MOST for name, count in _counts.items() if count > MOST}
        _counts.clear()
        for name, lines in left_out.items():
            _write("left_out", {"event": name, "lines": lines})
    _counts[event] += 1
    return _counts[event] <= MOST


def _write(event: str, details: dict[str, Value]) -> None:
    values = {name: value[:LONGEST] if isinstance(value, str) else value for name, value in details.items()}
    pairs = [f"{name}={json.dumps(value)}" for name, value in values.items() if value is not None]
    log.info("%s", " ".join([event, *pairs]))

"""How long the machine kept somebody waiting: what no promise in seconds can be held against.

The kernel counts the time in which somebody wanted a core or the disk and had none, and what the host of a virtual
machine took away. On a quiet machine that is nothing; where the kernel does not count, nothing is forgiven.
"""

import os
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

PRESSURE = Path("/proc/pressure")
STOLEN = 8  # the field of the first line of /proc/stat
LOOK_EVERY = 0.05  # seconds
LOOKS = 10_000


class Waited:
    """``seconds()`` of it since this was made."""

    def __init__(self) -> None:
        self._before = _ever()

    def seconds(self) -> float:
        return _ever() - self._before


class Watch:
    """The same since any moment that is told afterwards, in seconds since 1970, while this is open."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque(maxlen=LOOKS)
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def since(self, moment: float) -> float:
        now, looks = _ever(), list(self._looks)
        return now - max((ever for at, ever in looks if at <= moment), default=looks[0][1])

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            self._look()

    def _look(self) -> None:
        self._looks.append((time.time(), _ever()))

    def __enter__(self) -> Self:
        self._look()
        self._watching.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._over.set()
        self._watching.join()


def _ever() -> float:
    """Since the machine was started."""
    return _pressure("cpu") + _pressure("io") + _stolen()


def _pressure(what: str) -> float:
    try:
        some, *_ = (PRESSURE / what).read_text().splitlines()
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


def _stolen() -> float:
    return int(Path("/proc/stat").read_text().split()[STOLEN]) / os.sysconf("SC_CLK_TCK")

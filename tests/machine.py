"""What may be said of time on a machine that is busy, or stands still for a second.

``quickest`` for work of this process that can be done again, ``awake`` for what it watches, ``Watch`` for what others
do. Not here: deadlines, which cost nothing where what is waited for comes.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

PRESSURE = Path("/proc/pressure")
STOLEN = 8  # the field of the first line of /proc/stat
LOOK_EVERY = 0.05  # seconds
STOOD_STILL = 0.1  # seconds by which a look is late
LOOKS = 20_000
TRIES = 5
TURN = 0.02  # seconds


async def quickest(work: Callable[[], Awaitable[object]], enough: float) -> float:
    """The seconds that ``work`` takes: what waits for something does so each time. Not tried again below ``enough``."""
    took: list[float] = []
    while len(took) < TRIES and min(took, default=enough) >= enough:
        begun = time.monotonic()
        await work()
        took.append(time.monotonic() - begun)
    return min(took)


@asynccontextmanager
async def awake() -> AsyncIterator[Callable[[], float]]:
    """The seconds since the block was entered in which this process had its turn: of others it says nothing then."""
    passed, before = 0.0, time.monotonic()

    def so_far() -> float:
        return passed + min(time.monotonic() - before, 2 * TURN)

    async def count() -> None:
        nonlocal passed, before
        while True:
            await asyncio.sleep(TURN)
            passed, before = so_far(), time.monotonic()

    counting = asyncio.create_task(count())
    try:
        yield so_far
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


class Look(NamedTuple):
    """What had been counted, and missed by looking late, by that moment."""

    at: float
    counted: float
    missed: float


class Watch:
    """How long the machine kept somebody waiting: what no promise in seconds can be held against.

    The kernel counts the time in which somebody wanted a core or the disk and had none, and what the host of a virtual
    machine took away; and where all stand still, whoever looks at the clock is late. On a quiet one that is nothing.
    """

    def __init__(self) -> None:
        self._looks: deque[Look] = deque(maxlen=LOOKS)
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look_on, daemon=True)

    def since(self, moment: float = 0.0) -> float:
        """How long so since that moment, in seconds since 1970; or since this was opened."""
        now, looks = self._look(), list(self._looks)
        then = max((each for each in looks if each.at <= moment), default=looks[0])
        return max(now.counted - then.counted, now.missed - then.missed)

    def _look_on(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            self._looks.append(self._look())

    def _look(self) -> Look:
        at, before = time.time(), self._looks[-1]
        late = at - before.at - LOOK_EVERY
        return Look(at, _counted(), before.missed + (late if late > STOOD_STILL else 0))

    def __enter__(self) -> Self:
        self._looks.append(Look(time.time(), _counted(), 0.0))
        self._looking.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._over.set()
        self._looking.join()


def _counted() -> float:
    """By the kernel, since it was started."""
    return _pressure("cpu") + _pressure("io") + _stolen()


def _pressure(what: str) -> float:
    try:
        some, *_ = (PRESSURE / what).read_text().splitlines()
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


def _stolen() -> float:
    return int(Path("/proc/stat").read_text().split()[STOLEN]) / os.sysconf("SC_CLK_TCK")

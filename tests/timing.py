"""Time bounds on a machine that is busy or pauses.

``quickest`` for work of this process that can be repeated, ``awake`` and ``within`` for other work of this process,
``LoadMonitor`` for other processes.
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
SAMPLE_EVERY = 0.05  # seconds
PAUSED = 0.1  # seconds of delay after which a sample counts as late
SAMPLES = 20_000
TRIES = 5
TURN = 0.02  # seconds
HANG = 60.0  # seconds, after which a block is cancelled


async def quickest(work: Callable[[], Awaitable[object]], enough: float) -> float:
    """The shortest time (seconds) of up to ``TRIES`` runs of ``work``; stops once a run takes less than ``enough``."""
    took: list[float] = []
    while len(took) < TRIES and min(took, default=enough) >= enough:
        begun = time.monotonic()
        await work()
        took.append(time.monotonic() - begun)
    return min(took)


async def slowest(work: Callable[[], Awaitable[object]]) -> float:
    """The longest time (seconds) of ``TRIES`` runs of ``work``."""
    took: list[float] = []
    for _ in range(TRIES):
        begun = time.monotonic()
        await work()
        took.append(time.monotonic() - begun)
    return max(took)


@asynccontextmanager
async def awake() -> AsyncIterator[Callable[[], float]]:
    """A function that returns the seconds for which this process ran, since the block was entered."""
    passed, before = 0.0, time.monotonic()
    over = threading.Event()

    def so_far() -> float:
        return passed + min(time.monotonic() - before, 2 * TURN)

    def count() -> None:
        nonlocal passed, before
        while not over.wait(TURN):
            passed, before = so_far(), time.monotonic()

    # A thread: if the event loop is blocked, that counts.
    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    try:
        yield so_far
    finally:
        over.set()
        counting.join()


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Fail unless the block takes less than ``seconds``, not counting time in which this process did not run."""
    async with awake() as so_far, asyncio.timeout(HANG):
        yield
        took = so_far()
        assert took < seconds, f"it took {took:.3f} s"


class Sample(NamedTuple):
    """Counters at one moment, in seconds."""

    at: float
    pressure: float  # a process waited for a core or the disk
    stolen: float  # by the host of a virtual machine
    missed: float  # samples came late: nothing ran


class LoadMonitor:
    """Measures the time that processes lost to load on the machine, to extend time bounds by it.

    A server that does too much causes load as well, so a bound is never more than doubled.
    """

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._over = threading.Event()
        self._sampling = threading.Thread(target=self._sample_loop, daemon=True)

    def allows(self, seconds: float, moment: float) -> float:
        """The bound of ``seconds`` plus the time since ``moment`` (Unix seconds) lost to load; at most doubled."""
        now, then = self._sample(), self._sample_at(moment)
        lost = max(now.pressure - then.pressure, now.stolen - then.stolen, now.missed - then.missed)
        return seconds + min(lost, seconds)

    def paused(self, moment: float = 0.0) -> float:
        """The seconds since ``moment``, or since the start, in which the whole machine ran nothing."""
        now, then = self._sample(), self._sample_at(moment)
        return max(now.stolen - then.stolen, now.missed - then.missed)

    def _sample_at(self, moment: float) -> Sample:
        samples = list(self._samples)
        return max((each for each in samples if each.at <= moment), default=samples[0])

    def _sample_loop(self) -> None:
        while not self._over.wait(SAMPLE_EVERY):
            self._samples.append(self._sample())

    def _sample(self) -> Sample:
        at, before = time.time(), self._samples[-1]
        late = at - before.at - SAMPLE_EVERY
        missed = before.missed + (late if late > PAUSED else 0)
        return Sample(at, _pressure("cpu") + _pressure("io"), _stolen(), missed)

    def __enter__(self) -> Self:
        self._samples.append(Sample(time.time(), _pressure("cpu") + _pressure("io"), _stolen(), 0.0))
        self._sampling.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._over.set()
        self._sampling.join()


def _pressure(what: str) -> float:
    try:
        some, *_ = (PRESSURE / what).read_text().splitlines()
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


def _stolen() -> float:
    return int(Path("/proc/stat").read_text().split()[STOLEN]) / os.sysconf("SC_CLK_TCK")

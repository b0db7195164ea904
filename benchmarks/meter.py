"""CPU and memory of a process, read from ``/proc``. Linux only."""

import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Memory in KiB: resident, with a proportional share of shared pages, and private."""

    rss: int
    pss: int
    uss: int


def memory(pid: int) -> Memory:
    """The current memory of ``pid``."""
    status, rollup = _sizes(pid, "status"), _sizes(pid, "smaps_rollup")
    return Memory(status["VmRSS"], rollup["Pss"], rollup["Private_Clean"] + rollup["Private_Dirty"])


def _sizes(pid: int, file: str) -> dict[str, int]:
    lines = [line.split() for line in Path(f"/proc/{pid}/{file}").read_text().splitlines()]
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}


def cpu(pid: int) -> float:
    """The CPU seconds of all threads of ``pid``; the resolution is usually 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Used(NamedTuple):
    """CPU seconds of the server, CPU seconds of this process, and elapsed seconds."""

    server: float
    load: float
    wall: float

    def __add__(self, other: tuple[float, ...]) -> "Used":  # type: ignore[override]
        return Used(*map(sum, zip(self, other, strict=True)))


NOTHING = Used(0, 0, 0)


class Stopwatch:
    """Measures from its creation on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._start = self._now()

    def used(self) -> Used:
        """The use since the creation."""
        return Used(*(late - early for late, early in zip(self._now(), self._start, strict=True)))

    def _now(self) -> Used:
        return Used(cpu(self._pid), time.process_time(), time.perf_counter())


def speed() -> float:
    """The CPU milliseconds of a fixed Python loop, a measure of the machine's current speed."""
    start, kept = time.process_time(), {}
    for number in range(300_000):
        kept[number % 1000] = str(number)
    return (time.process_time() - start) * 1e3


def allow_descriptors(count: int) -> None:
    """Raise the limit of open files, inherited by servers, to ``count``; exits if the hard limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(
            f"{count} open files are needed, and the hard limit is {hard}: raise it (ulimit -Hn, "
            "or nofile in limits.conf), or run only benchmarks that need fewer"
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))

"""What the kernel says a process has used. Linux alone: this reads ``/proc``."""

import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """KiB: resident, its proportional share of shared pages, and what is the process's alone."""

    rss: int
    pss: int
    uss: int


def memory(pid: int) -> Memory:
    """What ``pid`` holds now."""
    status, rollup = _sizes(pid, "status"), _sizes(pid, "smaps_rollup")
    return Memory(status["VmRSS"], rollup["Pss"], rollup["Private_Clean"] + rollup["Private_Dirty"])


def _sizes(pid: int, file: str) -> dict[str, int]:
    lines = [line.split() for line in Path(f"/proc/{pid}/{file}").read_text().splitlines()]
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}


def cpu(pid: int) -> float:
    """Seconds of CPU that all threads of ``pid`` have used, to the kernel's tick (mostly 10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Used(NamedTuple):
    """Seconds of the server's CPU, of this process's own, and on the clock."""

    server: float
    load: float
    wall: float

    def __add__(self, other: tuple[float, ...]) -> "Used":  # type: ignore[override]
        return Used(*map(sum, zip(self, other, strict=True)))


NOTHING = Used(0, 0, 0)


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._start = self._now()

    def used(self) -> Used:
        """What was used since."""
        return Used(*(late - early for late, early in zip(self._now(), self._start, strict=True)))

    def _now(self) -> Used:
        return Used(cpu(self._pid), time.process_time(), time.perf_counter())


def speed() -> float:
    """Milliseconds of CPU for one piece of plain Python: how fast this machine is just now."""
    start, kept = time.process_time(), {}
    for number in range(300_000):
        kept[number % 1000] = str(number)
    return (time.process_time() - start) * 1e3


def allow_descriptors(count: int) -> None:
    """Let this process, and every server it starts, have ``count`` files open; exits if forbidden."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(
            f"{count} open files are needed, and the hard limit here is {hard}: raise it (ulimit -Hn, "
            "or nofile in limits.conf), or name only benchmarks that need fewer"
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))

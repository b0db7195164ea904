"""CPU and memory of a server's processes, read from ``/proc``. Linux only."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SPARE = 500  # descriptors that a process needs for other things than tabs


class Memory(NamedTuple):
    """Memory in KiB: with a proportional share of shared pages, and private."""

    pss: int
    uss: int

    def __add__(self, other: tuple[int, ...]) -> "Memory":  # type: ignore[override]
        return Memory(*map(sum, zip(self, other, strict=True)))


def family(pid: int) -> Iterator[int]:
    """``pid`` and the processes that it has started, directly or not."""
    yield pid
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def memory(pid: int) -> Memory:
    """The current memory of ``pid`` and its children."""
    return sum(map(_memory, family(pid)), Memory(0, 0))


def _memory(pid: int) -> Memory:
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    sizes = {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}
    return Memory(sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def cpu(pid: int) -> float:
    """The CPU seconds of all running threads of ``pid`` and its children, from the scheduler's statistics."""
    return sum(map(_cpu, family(pid)))


def _cpu(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Used(NamedTuple):
    """CPU seconds of the server, CPU seconds of this process, and elapsed seconds."""

    server: float
    load: float
    wall: float

    def __add__(self, other: tuple[float, ...]) -> "Used":  # type: ignore[override]
        return Used(*map(sum, zip(self, other, strict=True)))

    def __sub__(self, other: tuple[float, ...]) -> "Used":
        return Used(*(late - early for late, early in zip(self, other, strict=True)))


NOTHING = Used(0, 0, 0)


class Stopwatch:
    """Measures from its creation on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._start = self._now()

    def used(self) -> Used:
        """The use since the creation."""
        return self._now() - self._start

    def _now(self) -> Used:
        return Used(cpu(self._pid), time.process_time(), time.perf_counter())


def speed() -> float:
    """The CPU milliseconds of a fixed Python loop, a measure of the machine's current speed."""
    start, kept = time.process_time(), {}
    for number in range(300_000):
        kept[number % 1000] = str(number)
    return (time.process_time() - start) * 1e3


def descriptors() -> int:
    """Raise the limit of open files, which servers inherit, as far as allowed; returns how many tabs that allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = int(Path("/proc/sys/fs/nr_open").read_text())
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - SPARE


def machine() -> str:
    """Its processor, cores, memory and kernel, in one line."""
    models = [line.partition(": ")[2] for line in _lines("cpuinfo") if line.startswith("model name")]
    gigabytes = int(_lines("meminfo")[0].split()[1]) / 2**20
    system = os.uname()
    model = models[0] if models else system.machine
    return f"{model}, {os.cpu_count()} cores, {gigabytes:.0f} GiB of memory, Linux {system.release}"


def _lines(file: str) -> list[str]:
    return Path(f"/proc/{file}").read_text().splitlines()

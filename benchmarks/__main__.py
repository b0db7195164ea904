"""``python -m benchmarks [NAME ...]``, as in ``MODULES``: the table on stdout, how far it is on stderr."""

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from benchmarks import deliver, drain, gap, memory, meter, poll, send, stalled
from benchmarks.table import Figure, lines
from benchmarks.world import World, world

RUNS = 3


class Benchmark(Protocol):
    """What each of the modules offers."""

    DESCRIPTORS: int

    def run(self, world: World) -> list[Figure]: ...


MODULES = {
    "memory": memory,
    "deliver": deliver,
    "poll": poll,
    "send": send,
    "drain": drain,
    "stalled": stalled,
    "gap": gap,
}
BENCHMARKS = {name: cast(Benchmark, module) for name, module in MODULES.items()}


def main() -> None:
    """Run what the command line names, or everything."""
    chosen = _chosen()
    # The server must not outlive this process, nor its folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    meter.allow_descriptors(max(BENCHMARKS[name].DESCRIPTORS for name in chosen))
    _say("making people")
    with world() as people:
        runs = [_run(chosen, people, number) for number in range(1, RUNS + 1)]
    print("\n".join(lines(runs)))


def _chosen() -> list[str]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=f"Medians of {RUNS} runs.")
    parser.add_argument("name", nargs="*", help=f"{', '.join(BENCHMARKS)}; none: all of them")
    names: list[str] = parser.parse_args().name
    for name in set(names) - BENCHMARKS.keys():
        parser.error(f"there is no benchmark {name}; there are {', '.join(BENCHMARKS)}")
    return names or list(BENCHMARKS)


def _run(chosen: Sequence[str], people: World, number: int) -> list[Figure]:
    figures: list[Figure] = []
    for name in chosen:
        _say(f"{name}, run {number} of {RUNS}")
        speed = meter.speed()
        figures += BENCHMARKS[name].run(people)
        figures.append(Figure("  the machine: a piece of plain Python before it", "ms", speed))
    return figures


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

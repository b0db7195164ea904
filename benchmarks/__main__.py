"""``python -m benchmarks [NAME ...]``, with names from ``MODULES``: the table on stdout, progress on stderr."""

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
    """The interface of a benchmark module."""

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
    """Run the benchmarks named on the command line, or all."""
    chosen = _chosen()
    # Exit by SystemExit, so that the server and its folder are cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    meter.allow_descriptors(max(BENCHMARKS[name].DESCRIPTORS for name in chosen))
    _say("creating users")
    with world() as the_world:
        runs = [_run(chosen, the_world, number) for number in range(1, RUNS + 1)]
    print("\n".join(lines(runs)))


def _chosen() -> list[str]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=f"Medians of {RUNS} runs.")
    parser.add_argument("name", nargs="*", help=f"{', '.join(BENCHMARKS)}; default: all")
    names: list[str] = parser.parse_args().name
    for name in set(names) - BENCHMARKS.keys():
        parser.error(f"unknown benchmark {name}; choose from {', '.join(BENCHMARKS)}")
    return names or list(BENCHMARKS)


def _run(chosen: Sequence[str], the_world: World, number: int) -> list[Figure]:
    figures: list[Figure] = []
    for name in chosen:
        _say(f"{name}, run {number} of {RUNS}")
        speed = meter.speed()
        figures += BENCHMARKS[name].run(the_world)
        figures.append(Figure("  machine speed: a fixed Python loop", "ms", speed))
    return figures


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

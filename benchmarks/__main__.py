"""``python -m benchmarks [NAME ...]``, with names from ``BENCHMARKS``: the table on stdout, progress on stderr."""

import argparse
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import deliver, drain, gap, growth, latency, memory, meter, poll, restart, send, stalled, view
from benchmarks.peers import push, tutorial
from benchmarks.peers.push import Push
from benchmarks.results import SPEED, Figure, Results, saved
from benchmarks.sizes import FULL, QUICK
from benchmarks.table import lines
from benchmarks.world import World, world

RUNS = 3
PEERS = [*(each.name for each in push.SERVERS), tutorial.NAME]

# What a benchmark gets: the world, the push servers beside which it measures, and whether the Flask peer is one.
BENCHMARKS: dict[str, Callable[[World, list[Push], bool], list[Figure]]] = {
    "memory": lambda world, servers, _: memory.run(world, servers),
    "deliver": lambda world, servers, _: deliver.run(world, servers),
    "poll": lambda world, _, flask: poll.run(world, flask),
    "send": lambda world, _, flask: send.run(world, flask),
    "view": lambda world, *_: view.run(world),
    "latency": lambda world, *_: latency.run(world),
    "growth": lambda world, *_: growth.run(world),
    "gap": lambda world, *_: gap.run(world),
    "restart": lambda world, *_: restart.run(world),
    "drain": lambda world, *_: drain.run(world),
    "stalled": lambda world, *_: stalled.run(world),
}
PERFORMANCE = list(BENCHMARKS)[:-2]  # the rows of the table; the last two are about reliability


def main() -> None:
    """Run the benchmarks named on the command line, or those of the table; print it, and write the page if asked."""
    options = _options()
    if options.saved:
        results = saved(options.saved)
    else:
        results = _measured(options.name or PERFORMANCE, options.peers, options.runs)
    print("\n".join(lines(results.rows())))
    if options.write:
        from benchmarks import page  # needs matplotlib

        page.write(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Prints the median of each figure.")
    parser.add_argument("name", nargs="*", help=f"{', '.join(BENCHMARKS)}; default: all but the last two")
    parser.add_argument("--runs", type=int, help=f"default: {RUNS}, or 1 without peers")
    parser.add_argument("--peers", default=",".join(PEERS), help="separated by commas; default: %(default)s")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md, its plots and its figures")
    parser.add_argument("--saved", type=Path, help="read the figures from this file instead of measuring them")
    options = parser.parse_args()
    for name in set(options.name) - BENCHMARKS.keys():
        parser.error(f"unknown benchmark {name}; choose from {', '.join(BENCHMARKS)}")
    known = {name.lower(): name for name in PEERS}
    wanted = [name.strip().lower() for name in options.peers.split(",") if name.strip()]
    for name in set(wanted) - known.keys():
        parser.error(f"unknown peer {name}; choose from {', '.join(PEERS)}")
    options.peers = [known[name] for name in wanted]
    options.runs = options.runs or (RUNS if options.peers else 1)
    return options


def _measured(chosen: Sequence[str], peers: Sequence[str], runs: int) -> Results:
    # Exit by SystemExit, so that the servers and their folders are cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    meter.descriptors()
    servers = [each for each in push.SERVERS if each.name in peers]
    for server in servers:
        _say(f"preparing {server.name}")
        server.prepare()
    about = {
        "date": datetime.now(UTC).strftime("%d %B %Y"),
        "machine": meter.machine(),
        "python": platform.python_version(),
    }
    _say("creating users")
    with world(FULL if peers else QUICK) as the_world:
        results = Results(about, [])
        for number in range(1, runs + 1):
            _say(f"run {number} of {runs}")
            figures: list[Figure] = []
            for name in chosen:
                figures += _run(name, the_world, servers, tutorial.NAME in peers)
            results.runs.append(figures)
    return results


def _run(name: str, the_world: World, servers: list[Push], flask: bool) -> list[Figure]:
    start, speed = time.monotonic(), meter.speed()
    figures = BENCHMARKS[name](the_world, servers, flask)
    _say(f"{name}: {time.monotonic() - start:.0f} s")
    return [*figures, Figure(SPEED, "ms", speed)]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

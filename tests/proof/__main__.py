"""``python -m tests.proof``: runs the rows and prints their figures; exit status 1 if a check failed."""

import argparse
import asyncio
import logging
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from microblog_rt import files
from tests.proof.planted import PLANTS, VARIABLE
from tests.proof.rows import FULL, ROWS, SHORT, Result, Row, Scale
from tests.proof.world import world


async def run(folder: Path, scale: Scale, rows: Sequence[Row], seed: int, python_path: Path) -> list[Result]:
    """Run ``rows`` one after the other in one world."""
    results = []
    async with world(folder, scale.tabs, seed, python_path) as the_world:
        for row in rows:
            began, worked = time.monotonic(), time.process_time()
            result = await row(the_world, scale)
            took = time.monotonic() - began
            load = (time.process_time() - worked) / took
            results.append(
                result._replace(figures={"seconds": took, "CPU of the load generator": load, **result.figures})
            )
            show(results[-1])
    return results


def show(result: Result) -> None:
    """Print one row."""
    print(f"\n{result.name}: {'FAILED' if result.wrong else 'passed'}")
    for name, value in result.figures.items():
        print(f"    {name:<40} {value if not isinstance(value, float) else round(value, 3)}")
    for line in result.wrong[:20]:
        print(f"  ! {line}")
    sys.stdout.flush()


def main() -> int:
    """Run the command line."""
    options = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    options.add_argument("--short", action="store_true", help="the short form")
    options.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="repeat the faults of an earlier run"
    )
    options.add_argument("--plant", choices=[plant.name for plant in PLANTS], help="a bug to plant in the servers")
    options.add_argument("--kills", type=int, help="how many processes to kill")
    options.add_argument("--outages", type=float, nargs="+", help="lengths of the database outages in seconds")
    options.add_argument(
        "rows", nargs="*", help=f"one or more of {', '.join(row.__name__ for row in ROWS)}; default: all"
    )
    chosen = options.parse_args()
    scale = SHORT if chosen.short else FULL
    scale = scale._replace(kills=chosen.kills or scale.kills, outages=chosen.outages or scale.outages)
    print(f"seed {chosen.seed}, {scale}")
    random.seed(chosen.seed)
    if chosen.plant:
        os.environ[VARIABLE] = chosen.plant  # the servers inherit it
    logging.disable(logging.WARNING)  # from the storage of this process during outages
    rows = [row for row in ROWS if not chosen.rows or row.__name__ in chosen.rows]
    with TemporaryDirectory(prefix="proof-", ignore_cleanup_errors=True) as folder:
        results = asyncio.run(run(Path(folder), scale, rows, chosen.seed, files.CHECKOUT / "src"))
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())

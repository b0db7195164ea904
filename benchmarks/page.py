"""Writes ``docs/performance.md``."""

from benchmarks.results import Results


def write(results: Results) -> None:
    raise NotImplementedError

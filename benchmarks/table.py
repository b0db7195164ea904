"""Formats the figures of several runs as a text table of medians."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

HEAD = ("what", "unit", "median", "lowest", "highest", "target", "load generator", "note")


class Figure(NamedTuple):
    """One number of one run; ``load`` is that of the load generator, in the same unit."""

    label: str
    unit: str
    value: float
    target: float | None = None
    load: float | None = None
    note: str = ""


def lines(runs: Sequence[Sequence[Figure]]) -> list[str]:
    """The lines of the table. Every run must have the same figures in the same order."""
    rows = [HEAD, *[_row(figures) for figures in zip(*runs, strict=True)]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths) for row in rows]


def _row(figures: Sequence[Figure]) -> tuple[str, ...]:
    first = figures[0]
    values = [each.value for each in figures]
    loads = [each.load for each in figures if each.load is not None]
    numbers = [median(values), min(values), max(values), first.target, median(loads) if loads else None]
    notes = dict.fromkeys(each.note for each in figures)
    return (first.label, first.unit, *map(_number, numbers), "; ".join(notes))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(row: Iterable[str], widths: Iterable[int]) -> str:
    cells = list(zip(row, widths, strict=True))
    texts, numbers, note = cells[:2], cells[2:-1], cells[-1]
    left = [text.ljust(width) for text, width in texts]
    right = [text.rjust(width) for text, width in numbers]
    return "  ".join([*left, *right, note[0]]).rstrip()

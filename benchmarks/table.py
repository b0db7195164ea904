"""Formats rows as a text table, or as one of Markdown."""

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.results import Row

HEAD = ("what", "unit", "median", "range", "load", "peers: median (times better; load)", "goal", "", "note")
NUMBERS = range(2, 5)  # the columns aligned to the right
VERDICTS = {True: "met", False: "missed", None: ""}


def lines(rows: Iterable[Row]) -> list[str]:
    """The lines of the text table."""
    cells = [HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [_line(row, widths) for row in cells]


def markdown(rows: Iterable[Row]) -> list[str]:
    """The lines of the Markdown table."""
    rule = ["--:" if column in NUMBERS else "---" for column in range(len(HEAD))]
    return [f"| {' | '.join(cells)} |" for cells in (HEAD, rule, *map(_cells, rows))]


def number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cells(row: Row) -> tuple[str, ...]:
    first, values = row.first, row.values
    middle = number(median(values)) if values else "-"
    span = f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""
    verdict = VERDICTS[row.met()]
    notes = "; ".join(row.notes)
    return first.label, first.unit, middle, span, number(row.load()), _peers(row), _goal(row), verdict, notes


def _peers(row: Row) -> str:
    return ", ".join(_peer(row, name, value, ratio) for name, value, ratio in row.peers())


def _peer(row: Row, name: str, value: float, ratio: float | None) -> str:
    better = "" if ratio is None else f"{number(ratio)} ×"
    load = row.load(name)
    shown = "; ".join(part for part in (better, number(load)) if part)
    return f"{name} {number(value)}" + (f" ({shown})" if shown else "")


def _goal(row: Row) -> str:
    if row.first.goal is None:
        return ""
    if row.first.against:
        return f"≥ {number(row.first.goal)} × {row.first.against}"
    return f"{'≥' if row.first.more else '≤'} {number(row.first.goal)}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        text.rjust(width) if column in NUMBERS else text.ljust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()

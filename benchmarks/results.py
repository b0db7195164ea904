"""The figures of several runs: grouped into rows, compared with goals, kept as JSON."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

OURS = "microblog-rt"
SPEED = "machine speed: a fixed Python loop"


class Figure(NamedTuple):
    """One number of one run.

    ``goal`` is an upper bound, or with ``more`` a lower one. With ``against``, the name of a peer, it bounds the ratio
    to that peer's figure. ``load`` is the CPU of the load generator, in the same unit. ``plot`` is the name of a plot
    and the position on its horizontal axis; a figure without a label is only plotted.
    """

    label: str
    unit: str
    value: float
    goal: float | None = None
    load: float | None = None
    note: str = ""
    subject: str = OURS
    against: str = ""
    more: bool = False
    plot: tuple[str, float] | None = None


class Results(NamedTuple):
    """The figures of each run, and what is known of the machine and the day."""

    about: dict[str, str]
    runs: list[list[Figure]]

    def rows(self) -> list["Row"]:
        """The figures of the table, by label, in the order of the first run."""
        groups: dict[str, list[Figure]] = {}
        for figure in self.figures():
            if figure.label:
                groups.setdefault(figure.label, []).append(figure)
        groups[SPEED] = groups.pop(SPEED, [])  # the last one
        return [Row(figures) for figures in groups.values() if figures]

    def figures(self) -> Iterator[Figure]:
        """All figures of all runs."""
        for run in self.runs:
            yield from run

    def save(self, file: Path) -> None:
        """Write everything to ``file``."""
        runs = [[_plain(figure) for figure in run] for run in self.runs]
        file.write_text(json.dumps({"about": self.about, "runs": runs}, indent=1, ensure_ascii=False) + "\n")


def saved(file: Path) -> Results:
    """What ``Results.save`` wrote to ``file``."""
    content = json.loads(file.read_text())
    runs = [[_figure(fields) for fields in run] for run in content["runs"]]
    return Results(content["about"], runs)


def _plain(figure: Figure) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    defaults = Figure._field_defaults
    return {name: value for name, value in figure._asdict().items() if name not in defaults or value != defaults[name]}


def _figure(fields: dict[str, Any]) -> Figure:
    plot = fields.pop("plot", None)
    return Figure(**fields, plot=tuple(plot) if plot else None)


class Row:
    """All figures of one label: ours and those of the peers."""

    def __init__(self, figures: list[Figure]) -> None:
        self.first = next((each for each in figures if each.subject == OURS), figures[0])
        self._values: dict[str, list[float]] = {}
        for each in figures:
            self._values.setdefault(each.subject, []).append(each.value)
        self._loads: dict[str, list[float]] = {}
        for each in figures:
            if each.load is not None:
                self._loads.setdefault(each.subject, []).append(each.load)
        self.notes = list(dict.fromkeys(each.note for each in figures if each.note))

    @property
    def values(self) -> list[float]:
        """Our value of each run; empty if only peers were measured."""
        return self._values.get(OURS, [])

    def load(self, subject: str = OURS) -> float | None:
        """The median CPU of the load generator beside that subject."""
        loads = self._loads.get(subject)
        return median(loads) if loads else None

    def peers(self) -> Iterator[tuple[str, float, float | None]]:
        """Each peer, its median, and how many times better than it ours is; None without a meaningful ratio."""
        ours = median(self.values) if self.values else 0
        for name, values in self._values.items():
            if name not in (OURS, ""):
                theirs = median(values)
                better, worse = (ours, theirs) if self.first.more else (theirs, ours)
                yield name, theirs, better / worse if ours > 0 and theirs > 0 else None

    def met(self) -> bool | None:
        """Whether the median meets the goal; None if there is no goal, or the peer it refers to was not measured."""
        goal, against = self.first.goal, self.first.against
        if goal is None or not self.values:
            return None
        if against:
            ratios = [ratio for name, _, ratio in self.peers() if name == against and ratio is not None]
            return ratios[0] >= goal if ratios else None
        value = median(self.values)
        return value >= goal if self.first.more else value <= goal


def medians(figures: Iterable[Figure], plot: str) -> dict[str, list[tuple[float, float]]]:
    """The points of a plot by subject: each position with the median of its values."""
    points: dict[str, dict[float, list[float]]] = {}
    for each in figures:
        if each.plot and each.plot[0] == plot:
            points.setdefault(each.subject, {}).setdefault(each.plot[1], []).append(each.value)
    return {name: [(x, median(values)) for x, values in sorted(at.items())] for name, at in points.items()}

"""The plots of ``docs/performance.md``, as SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from benchmarks import deliver, latency, memory
from benchmarks.results import OURS, Results, medians

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # told apart by colour-blind readers, too
STYLE = {
    "svg.hashsalt": "microblog-rt",  # the same file for the same figures
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


class Plot(NamedTuple):
    """One plot: the name of its figures, its file, what it shows, and its axes."""

    name: str
    file: str
    caption: str
    horizontal: str
    vertical: str


PLOTS = (
    Plot(memory.PLOT, "memory.svg", "Memory of an idle tab by the number of tabs", "tabs", "KiB per tab"),
    Plot(deliver.PLOT, "deliver.svg", "Server CPU of one delivery by the number of tabs", "tabs", "µs per delivery"),
    Plot(latency.PLOT, "latency.svg", "Delay from send to frame", "percentile", "ms"),
)


def draw(results: Results, folder: Path) -> list[Plot]:
    """Write the plots for which there are figures to ``folder``, and return them."""
    drawn = []
    for plot in PLOTS:
        points = medians(results.figures(), plot.name)
        if points:
            with mpl.rc_context(STYLE):
                _draw(plot, points).savefig(folder / plot.file, format="svg", metadata={"Date": None})
            drawn.append(plot)
    return drawn


def _draw(plot: Plot, points: dict[str, list[tuple[float, float]]]) -> Any:
    canvas = Canvas(figsize=(7, 3.6), layout="constrained")
    axes = canvas.subplots()
    names: Sequence[str] = sorted(points, key=lambda name: name != OURS)
    for name, colour in zip(names, COLOURS, strict=False):
        xs, ys = zip(*points[name], strict=True)
        axes.plot(xs, ys, marker="o", markersize=4, color=colour, label=name, linewidth=2.5 if name == OURS else 1.5)
    axes.set(title=plot.caption, xlabel=plot.horizontal, ylabel=plot.vertical)
    axes.set_ylim(bottom=0)
    if plot.horizontal == "tabs":
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    if len(names) > 1:
        canvas.legend(loc="outside right upper", frameon=False)
    return canvas

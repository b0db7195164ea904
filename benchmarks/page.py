"""Writes ``docs/performance.md`` from the template ``page.md``, with plots and figures, and links it in the README."""

from pathlib import Path

from benchmarks import plots
from benchmarks.memory import WARM_UP
from benchmarks.results import Results
from benchmarks.table import markdown
from microblog_rt.files import CHECKOUT

PAGE = CHECKOUT / "docs" / "performance.md"
FOLDER = CHECKOUT / "docs" / "performance"
FIGURES = FOLDER / "figures.json"
README = CHECKOUT / "README.md"
LINK = "- [Performance](docs/performance.md): measured side by side with peers"
LINK_AFTER = "- [Guarantees](docs/guarantees.md)"
TEMPLATE = Path(__file__).with_suffix(".md")


def write(results: Results) -> None:
    """Write the page, its plots and the figures."""
    FOLDER.mkdir(exist_ok=True)
    results.save(FIGURES)
    drawn = plots.draw(results, FOLDER)
    images = "".join(f"![{plot.caption}](performance/{plot.file})\n\n" for plot in drawn)
    rows = "\n".join(markdown(results.rows()))
    text = TEMPLATE.read_text()
    PAGE.write_text(text.format(rows=rows, plots=images, runs=len(results.runs), warm_up=WARM_UP, **results.about))
    _link()


def _link() -> None:
    """Add the page to the list of documents in the README, if it is not there."""
    lines = README.read_text().splitlines()
    if LINK not in lines:
        (before,) = [number for number, line in enumerate(lines) if line.startswith(LINK_AFTER)]
        lines.insert(before + 1, LINK)
        README.write_text("\n".join(lines) + "\n")

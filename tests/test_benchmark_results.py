"""The tables of the benchmarks: goals, ratios to peers, and figures kept as JSON."""

from pathlib import Path

import pytest
from benchmarks import table
from benchmarks.results import Figure, Results, Row, medians, saved


def row(ours: list[float], peer: list[float], goal: float, against: str = "", *, more: bool = False) -> Row:
    figures = [Figure("sends", "1/s", value, goal, against=against, more=more) for value in ours]
    return Row(figures + [Figure("sends", "1/s", value, subject="Flask") for value in peer])


@pytest.mark.parametrize(
    ("a_row", "met"),
    [
        (row([3, 4, 9], [], 4), True),
        (row([3, 5, 9], [], 4), False),
        (row([3, 4, 9], [], 5, more=True), False),
        (row([5], [249], 50, "Flask"), False),
        (row([5], [250], 50, "Flask"), True),
        (row([50], [10], 5, "Flask", more=True), True),
        (row([49], [10], 5, "Flask", more=True), False),
        (row([5], [], 50, "Flask"), None),
        (row([], [250], 50), None),
    ],
)
def test_goals_are_compared_with_medians(a_row: Row, met: bool | None) -> None:
    assert a_row.met() is met


def test_text_table_has_one_line_per_row() -> None:
    heading, *lines = table.lines([row([3, 4, 9], [8], 5), row([3], [], 5, "Flask")])
    assert heading.startswith("what")
    assert [" ".join(line.split()) for line in lines] == [
        "sends 1/s 4 3 to 9 Flask 8 (2 ×) ≤ 5 met",
        "sends 1/s 3 ≥ 5 × Flask",
    ]


def test_markdown_table_has_equal_numbers_of_cells() -> None:
    lines = table.markdown([row([3, 4, 9], [8], 5), row([3], [], 5, "Flask")])
    assert {line.count("|") for line in lines} == {len(table.HEAD) + 1}


def test_saved_figures_are_read_again(tmp_path: Path) -> None:
    results = Results({"date": "today"}, [[Figure("a", "ms", 1.5, note="n"), Figure("", "ms", 2, plot=("p", 5.0))]])
    results.save(tmp_path / "figures.json")
    assert saved(tmp_path / "figures.json") == results


def test_plots_show_medians_by_position() -> None:
    points = [Figure("", "ms", value, plot=("p", x)) for value, x in ((5, 2.0), (1, 1.0), (3, 1.0), (2, 1.0))]
    assert medians([*points, Figure("", "ms", 9, plot=("q", 1.0))], "p") == {"microblog-rt": [(1.0, 2), (2.0, 5)]}

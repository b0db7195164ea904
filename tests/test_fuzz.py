"""A thousand handshakes and frames as nobody should send them; ``python -m tests.fuzz`` plays ten times as many."""

from pathlib import Path

from tests import fuzz

STATUSES = {"101", "200", "400", "401", "403", "404", "405", "501"}
CLOSES = {"close 1002", "close 1003", "close 1007", "close 1008", "close 1009", "no close"}


def test_a_thousand_mutations_leave_nothing_behind(tmp_path: Path) -> None:
    """No traceback, nothing in the log, every connection over, no descriptor held, and a clean stop (I7, I9)."""
    report = fuzz.run(tmp_path, 1000, seed=1)
    assert report.failures() == []
    assert (report.result.played, report.result.probes) == (1000, 5)
    # Else most were turned away at the door, and little was tried.
    assert (STATUSES | CLOSES) - report.result.answers.keys() == set()


def test_the_same_seed_makes_the_same_bytes() -> None:
    one, again, other = ([*fuzz.sequences(seed, range(50), 8000, "microblog_session=x")] for seed in (7, 7, 8))
    assert one == again
    assert all(mine != others for mine, others in zip(one, other, strict=True))

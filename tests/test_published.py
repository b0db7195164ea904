"""The short form of ``python -m tests.published``."""

from pathlib import Path

from tests import published

COUNT = 300


async def test_both_clients_converge_while_everything_is_broken(tmp_path: Path) -> None:
    figures, wrong = await published.run(tmp_path, COUNT)
    assert wrong == []
    assert figures["published"] >= COUNT
    assert figures["faults"] == len(published.FAULTS)
    assert figures["lost responses"] > 0
    assert min(figures["interruptions"].values()) > 0, figures

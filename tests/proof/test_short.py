"""The short form of the proof: all rows in one world. The full form is ``python -m tests.proof``."""

import asyncio
import random

import pytest

from microblog_rt import files
from tests.proof.__main__ import run
from tests.proof.rows import ROWS, SHORT, Result


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """The results of all rows in one world, because setting it up takes longest. Prints the seed."""
    seed = random.randrange(10**6)
    print(f"python -m tests.proof --short --seed {seed}")
    return asyncio.run(run(tmp_path_factory.mktemp("proof"), SHORT, ROWS, seed, files.CHECKOUT / "src"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(len(ROWS)), ids=[row.__name__ for row in ROWS])
def test_invariants_hold_after_faults(results: list[Result], number: int) -> None:
    result = results[number]
    assert result.wrong == []
    assert result.figures["sends"] == result.figures["acknowledged"] != 0
    assert result.figures["tabs"] == result.figures["correct"] == SHORT.tabs

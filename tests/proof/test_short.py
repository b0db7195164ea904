"""The rows of the proof in their short form, all in one world; ``python -m tests.proof`` is the full one."""

import asyncio
import random

import pytest

from microblog_rt import files
from tests.proof.__main__ import run
from tests.proof.rows import ROWS, SHORT, Result


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Of all rows, one after the other: what takes longest is to make the world. The seed is printed."""
    seed = random.randrange(10**6)
    print(f"python -m tests.proof --short --seed {seed}")
    return asyncio.run(run(tmp_path_factory.mktemp("proof"), SHORT, ROWS, seed, files.CHECKOUT / "src"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(len(ROWS)), ids=[row.__name__ for row in ROWS])
def test_whatever_is_broken_all_is_right_in_the_end(results: list[Result], number: int) -> None:
    result = results[number]
    assert result.wrong == []
    assert result.figures["sends"] == result.figures["acknowledged"] != 0
    assert result.figures["tabs"] == result.figures["right"] == SHORT.tabs

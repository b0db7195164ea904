"""The tests can fail: each of twelve bugs, put into a copy of the product, is caught by the test named for it."""

from pathlib import Path

import pytest

from tests.proof.forked_tests import Outcome, run
from tests.proof.planted import PLANTS, Plant, broken, copied

pytestmark = pytest.mark.timeout(600)

NAMED = [plant.caught_by for plant in PLANTS]
ASSERTED = ("assert ", "AssertionError: ")  # as pytest's report calls it


def test_there_are_twelve_and_no_test_is_named_for_two() -> None:
    assert len(PLANTS) == len({plant.name for plant in PLANTS}) == len(set(NAMED)) == 12


def test_without_a_bug_every_named_test_passes(tmp_path: Path) -> None:
    """In the same kind of copy: that one fails there is the bug's doing."""
    assert sorted(run(copied(tmp_path), NAMED)) == sorted(Outcome(test, "passed", "") for test in NAMED)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_each_planted_bug_is_caught_by_its_named_test(plant: Plant, tmp_path: Path) -> None:
    """It fails by an assertion of its own: it was found, set up and run, and did not just hang."""
    (outcome,) = run(broken(tmp_path, plant), [plant.caught_by])
    assert (outcome.test, outcome.kind) == (plant.caught_by, "failure"), (plant.wrong, outcome)
    assert outcome.message.startswith(ASSERTED), (plant.wrong, outcome)

"""Each planted bug makes the test fail that is named for it."""

from pathlib import Path

import pytest

from tests.proof.forked_tests import Outcome, run
from tests.proof.planted import PLANTS, Plant, replace

pytestmark = pytest.mark.timeout(600)

NAMED = [plant.caught_by for plant in PLANTS]
ASSERTED = ("assert ", "AssertionError: ")  # how pytest's report begins a failed assertion


def test_every_planted_bug_has_its_own_named_test() -> None:
    assert len(PLANTS) == len({plant.name for plant in PLANTS}) == len(set(NAMED)) == 12


def test_replacing_an_attribute_that_is_not_there_fails() -> None:
    with pytest.raises(AssertionError, match="Plant has no missing"):
        replace(Plant, "missing", None)


def test_every_named_test_passes_without_a_bug(tmp_path: Path) -> None:
    assert sorted(run(tmp_path, NAMED)) == sorted(Outcome(test, "passed", "") for test in NAMED)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_planted_bug_fails_its_named_test(plant: Plant, tmp_path: Path) -> None:
    """By an assertion, so the test was found, set up and run, and did not time out."""
    (outcome,) = run(tmp_path, [plant.caught_by], plant.name)
    assert (outcome.test, outcome.kind) == (plant.caught_by, "failure"), (plant.apply.__doc__, outcome)
    assert outcome.message.startswith(ASSERTED), (plant.apply.__doc__, outcome)

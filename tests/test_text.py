"""What counts as text, and its length: ``text_cases.json`` is shared with ``js/counter.test.js``."""

import json
from pathlib import Path
from typing import Any

import pytest

from microblog_rt import text
from microblog_rt.errors import Invalid

CASES = json.loads((Path(__file__).parent / "text_cases.json").read_text())
BLANK = [each for each in CASES if each["what"].endswith(("alone",)) or not each["length"]]
ACCEPTED = [each for each in CASES if each not in BLANK]


def what(case: dict[str, Any]) -> str:
    return str(case["what"])


@pytest.mark.parametrize("case", ACCEPTED, ids=what)
def test_text_is_stored_normalized(case: dict[str, Any]) -> None:
    assert text.checked(case["text"]) == case["stored"]


@pytest.mark.parametrize("case", BLANK, ids=what)
def test_text_without_visible_characters_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="message_empty"):
        text.checked(case["text"])


@pytest.mark.parametrize("case", [each for each in ACCEPTED if each["codePoints"] <= 10 * each["length"]], ids=what)
def test_length_is_counted_in_grapheme_clusters(case: dict[str, Any]) -> None:
    times = 140 // case["length"] + 1
    repeated = "\n".join([case["stored"]] * times)
    with pytest.raises(Invalid, match="message_too_long") as refused:
        text.checked(repeated)
    assert refused.value.values == {"length": times * (case["length"] + 1) - 1, "limit": 140}


def test_140_emoji_of_ten_code_points_are_accepted() -> None:
    family = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}\u200d\N{BOY}"
    assert text.checked(family * 140) == family * 140
    assert len(text.checked(("a" + "\u0336" * 9) * 140)) == 1400


def test_more_than_1400_code_points_are_refused() -> None:
    with pytest.raises(Invalid, match="message_too_complex") as refused:
        text.checked("x" + "\u0336" * 1400)
    assert refused.value.values == {"length": 1401, "limit": 1400}

"""The wire: cursors, frames, acknowledgements."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microblog_rt import protocol
from microblog_rt.protocol import Notification

YEAR_2106 = int(datetime(2106, 1, 1, tzinfo=UTC).timestamp()) * protocol.MICROSECONDS


@given(st.integers(0, YEAR_2106))
def test_cursor_round_trips_exactly(cursor: int) -> None:
    assert protocol.parse_cursor(protocol.seconds(cursor)) == cursor


@given(st.integers(0, YEAR_2106))
def test_cursor_round_trips_through_json_doubles(cursor: int) -> None:
    assert protocol.parse_cursor(repr(json.loads(protocol.seconds(cursor)))) == cursor


@pytest.mark.parametrize("text", ["0", "1", "1.5", "1e3", "1795359229.387978", "1E+2", "3.", "007"])
def test_number_of_seconds_is_a_cursor(text: str) -> None:
    assert protocol.parse_cursor(text) == round(float(text) * 1e6)


def test_cursor_is_rounded_to_the_nearest_microsecond() -> None:
    assert protocol.parse_cursor("1.0000006") == 1_000_001


def test_huge_cursor_is_clamped_to_the_maximum() -> None:
    assert protocol.parse_cursor("1e300") == protocol.FURTHEST


NO_CURSORS = ["", " ", "nan", "inf", "-inf", "-1", "-0", "+1", "1e309", "1_0", "0x1", "١", "1 ", "1,5", "1e", "e1"]


@pytest.mark.parametrize("text", [*NO_CURSORS, "1" * 40])
def test_other_text_is_not_a_cursor(text: str) -> None:
    with pytest.raises(ValueError):
        protocol.parse_cursor(text)


def test_frame_is_a_json_array_of_notifications() -> None:
    notifications = [
        Notification('na"me', '{"a": [1, null]}', 1_500_000),
        Notification("unread_message_count", "2", 2_000_001),
    ]
    assert json.loads(protocol.frame(notifications)) == [
        {"name": 'na"me', "data": {"a": [1, None]}, "timestamp": 1.5},
        {"name": "unread_message_count", "data": 2, "timestamp": 2.000001},
    ]
    assert protocol.frame([]) == "[]"


@pytest.mark.parametrize("text", ["0", "1.5", "-3", "1e3", " 12 ", "1795359229.387978"])
def test_bare_json_number_is_an_acknowledgement(text: str) -> None:
    assert protocol.is_acknowledgement(text)


@pytest.mark.parametrize(
    "text", ["", "NaN", "Infinity", "1e999", "01", "1.", '"1"', "[1]", "{}", "null", "true", "1 2"]
)
def test_other_text_is_not_an_acknowledgement(text: str) -> None:
    assert not protocol.is_acknowledgement(text)


def test_repr_of_a_notification_shows_its_fields() -> None:
    assert repr(Notification("a", "[1]", 2)) == "Notification('a', [1], 2)"


@pytest.mark.parametrize(
    ("text", "cursor"), [("1.5", 1_500_000), ("-3", 0), (" 2 ", 2_000_000), ("1e300", protocol.FURTHEST)]
)
def test_acknowledgement_is_a_cursor(text: str, cursor: int) -> None:
    assert protocol.acknowledged(text) == cursor

"""Whom a process wants word of, and what it is owed."""

import pytest

from microblog_rt.bus import subscriptions
from microblog_rt.bus.subscriptions import Subscriptions


@pytest.fixture
def wanted() -> Subscriptions:
    """Of one user, whose subscription stands."""
    wanted = Subscriptions()
    wanted.subscribe(1)
    assert wanted.news.is_set()
    assert wanted.unasked() == [1]
    assert not wanted.news.is_set()
    assert not wanted.confirm(1)
    return wanted


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "LINGER", 0)


def test_who_has_just_left_is_kept_for_a_while(wanted: Subscriptions) -> None:
    wanted.unsubscribe(1)
    assert wanted.gone() == []
    wanted.subscribe(1)
    assert wanted.unasked() == []


def test_who_has_long_left_is_forgotten(wanted: Subscriptions, at_once: None) -> None:
    wanted.unsubscribe(1)
    assert wanted.gone() == [1]
    assert wanted.gone() == []
    wanted.subscribe(1)
    assert wanted.unasked() == [1]


def test_who_is_back_is_not_forgotten(wanted: Subscriptions, at_once: None) -> None:
    wanted.unsubscribe(1)
    wanted.subscribe(1)
    assert wanted.gone() == []


def test_who_leaves_before_the_subscription_stands_is_kept_until_it_does(at_once: None) -> None:
    wanted = Subscriptions()
    wanted.subscribe(1)
    wanted.unsubscribe(1)
    assert (wanted.unasked(), wanted.gone()) == ([1], [])
    wanted.confirm(1)
    assert wanted.gone() == [1]
    assert not wanted.confirm(1)


async def test_a_broken_connection_forgets_who_has_left_and_asks_for_all_others(wanted: Subscriptions) -> None:
    wanted.subscribe(2)
    wanted.confirm(2)
    wanted.unsubscribe(1)
    wanted.broken()
    assert wanted.unasked() == [2]
    await wanted.stand(2, within=0)
    assert wanted.confirm(2)


async def test_only_who_waited_in_vain_is_owed_a_gap_and_only_one(wanted: Subscriptions) -> None:
    await wanted.stand(1, within=0)
    assert not wanted.confirm(1)
    wanted.subscribe(2)
    await wanted.stand(2, within=0)
    assert wanted.confirm(2)
    assert not wanted.confirm(2)

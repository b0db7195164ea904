"""The limit of published notifications, with a clock of its own."""

import pytest

from microblog_rt import notifications
from microblog_rt.errors import TooMany
from microblog_rt.notifications import PublishLimit
from microblog_rt.settings import Limit

SECOND = 10**9


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> PublishLimit:
    """Ten at once, and one each second after that."""
    return PublishLimit(Limit(10, 10), clock)


def wait(limit: PublishLimit, count: int, publisher: int = 1) -> int:
    with pytest.raises(TooMany) as refused:
        limit.count(publisher, count)
    assert refused.value.retry_after is not None
    return refused.value.retry_after


def test_limit_returns_evenly(limit: PublishLimit, clock: Clock) -> None:
    limit.count(1, 4)
    limit.count(1, 6)
    assert (wait(limit, 1), wait(limit, 3)) == (1, 3)
    clock.now += 3 * SECOND
    assert wait(limit, 4) == 1
    limit.count(1, 3)
    clock.now += 100 * SECOND
    limit.count(1, 10)
    assert wait(limit, 1) == 1


def test_publishers_do_not_share_it(limit: PublishLimit) -> None:
    limit.count(1, 10)
    limit.count(2, 10)
    assert wait(limit, 1, publisher=2) == 1


def test_batch_above_the_limit_waits_for_all_of_it(limit: PublishLimit, clock: Clock) -> None:
    limit.count(1, 1)
    assert wait(limit, 25) == 1
    clock.now += SECOND
    limit.count(1, 25)
    assert wait(limit, 1) == 16
    clock.now += 16 * SECOND
    limit.count(1, 1)


def test_publishers_with_their_whole_limit_are_forgotten(
    limit: PublishLimit, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "REMEMBERED", 2)
    limit.count(1, 1)
    limit.count(2, 10)
    clock.now += SECOND
    limit.count(3, 1)
    assert set(limit._free_at) == {2, 3}
    assert wait(limit, 2, publisher=2) == 1

"""Which users to subscribe to and to unsubscribe from, and which readers need a Gap."""

from microblog_rt.bus.subscriptions import Subscriptions
from microblog_rt.timeouts import Timeouts

NO_UNSUBSCRIBE_DELAY = Timeouts(unsubscribe_delay=0)


def confirmed(timeouts: Timeouts = Timeouts()) -> Subscriptions:
    """Subscriptions with one confirmed user, 1."""
    subscriptions = Subscriptions(timeouts)
    subscriptions.subscribe(1)
    assert subscriptions.pending.is_set()
    assert subscriptions.to_subscribe() == [1]
    assert not subscriptions.pending.is_set()
    assert not subscriptions.confirmed(1)
    return subscriptions


def test_unsubscribed_user_is_kept_for_the_delay() -> None:
    subscriptions = confirmed()
    subscriptions.unsubscribe(1)
    assert subscriptions.to_unsubscribe() == []
    subscriptions.subscribe(1)
    assert subscriptions.to_subscribe() == []


def test_unsubscribed_user_is_removed_after_the_delay() -> None:
    subscriptions = confirmed(NO_UNSUBSCRIBE_DELAY)
    subscriptions.unsubscribe(1)
    assert subscriptions.to_unsubscribe() == [1]
    assert subscriptions.to_unsubscribe() == []
    subscriptions.subscribe(1)
    assert subscriptions.to_subscribe() == [1]


def test_user_subscribed_again_is_not_removed() -> None:
    subscriptions = confirmed(NO_UNSUBSCRIBE_DELAY)
    subscriptions.unsubscribe(1)
    subscriptions.subscribe(1)
    assert subscriptions.to_unsubscribe() == []


def test_unsubscribed_user_is_kept_until_confirmed() -> None:
    subscriptions = Subscriptions(NO_UNSUBSCRIBE_DELAY)
    subscriptions.subscribe(1)
    subscriptions.unsubscribe(1)
    assert (subscriptions.to_subscribe(), subscriptions.to_unsubscribe()) == ([1], [])
    subscriptions.confirmed(1)
    assert subscriptions.to_unsubscribe() == [1]
    assert not subscriptions.confirmed(1)


async def test_lost_connection_subscribes_to_remaining_users() -> None:
    subscriptions = confirmed()
    subscriptions.subscribe(2)
    subscriptions.confirmed(2)
    subscriptions.unsubscribe(1)
    subscriptions.connection_lost()
    assert subscriptions.to_subscribe() == [2]
    await subscriptions.wait_confirmed(2, seconds=0)
    assert subscriptions.confirmed(2)


async def test_only_a_wait_that_timed_out_needs_a_gap_once() -> None:
    subscriptions = confirmed()
    await subscriptions.wait_confirmed(1, seconds=0)
    assert not subscriptions.confirmed(1)
    subscriptions.subscribe(2)
    await subscriptions.wait_confirmed(2, seconds=0)
    assert subscriptions.confirmed(2)
    assert not subscriptions.confirmed(2)

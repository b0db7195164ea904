"""The hub: which signals a subscriber delivers without a read, which need one, and that none is lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microblog_rt.hub import NAMES_KEPT, UNKNOWN, Hub, Subscriber
from microblog_rt.protocol import Notification, Signal
from tests.clients import subscribed

SUSAN = 1


def signal(clock: int, follows: int | None = None, name: str = "n") -> Signal:
    return Signal(SUSAN, clock, follows, None if follows is None else Notification(name, str(clock), clock))


def subscriber_at(clock: int) -> Subscriber:
    """A subscriber that has read up to ``clock``."""
    subscriber = Subscriber(SUSAN)
    subscriber.begin_read()
    subscriber.end_read(clock)
    return subscriber


def taken(subscriber: Subscriber) -> list[int]:
    return [each.timestamp for each in subscriber.take_pending()]


def test_new_subscriber_must_read_first() -> None:
    assert Subscriber(SUSAN).must_read


def test_consecutive_notification_is_delivered_without_a_read() -> None:
    subscriber = subscriber_at(10)
    subscriber.deliver(signal(11, follows=10))
    assert not subscriber.must_read
    assert taken(subscriber) == [11]
    assert subscriber.position == 11


def test_notification_after_an_unknown_clock_needs_a_read() -> None:
    subscriber = subscriber_at(10)
    subscriber.deliver(signal(13, follows=12))
    assert subscriber.must_read
    assert taken(subscriber) == []


def test_signal_without_a_notification_needs_a_read() -> None:
    subscriber = subscriber_at(10)
    subscriber.deliver(signal(11))
    assert subscriber.must_read


def test_signal_at_or_behind_the_position_is_dropped() -> None:
    subscriber = subscriber_at(10)
    subscriber.deliver(signal(10, follows=9))
    subscriber.deliver(signal(9))
    assert not subscriber.must_read
    assert taken(subscriber) == []


def test_slow_subscriber_receives_the_newest_of_each_name() -> None:
    subscriber = subscriber_at(10)
    subscriber.deliver(signal(11, follows=10, name="a"))
    subscriber.deliver(signal(12, follows=11, name="b"))
    subscriber.deliver(signal(13, follows=12, name="a"))
    assert taken(subscriber) == [12, 13]


def test_pending_notifications_are_bounded() -> None:
    subscriber = subscriber_at(0)
    for clock in range(1, 10 * NAMES_KEPT):
        subscriber.deliver(signal(clock, follows=clock - 1, name=f"n{clock}"))
    assert subscriber.must_read
    assert taken(subscriber) == []


def test_signal_covered_by_the_running_read_needs_no_other() -> None:
    subscriber = subscriber_at(10)
    subscriber.begin_read()
    subscriber.deliver(signal(12))
    subscriber.end_read(12)
    assert not subscriber.must_read


def test_notification_newer_than_the_running_read_is_kept() -> None:
    subscriber = subscriber_at(10)
    subscriber.begin_read()
    subscriber.deliver(signal(11, follows=10, name="a"))
    subscriber.deliver(signal(12, follows=11, name="b"))
    subscriber.end_read(11)
    assert not subscriber.must_read
    assert taken(subscriber) == [12]


def test_gap_during_a_read_needs_another_read() -> None:
    subscriber = subscriber_at(10)
    subscriber.begin_read()
    subscriber.deliver(signal(100))
    subscriber.end_read(99)
    assert subscriber.must_read


def test_notification_after_a_lost_session_end_needs_a_read() -> None:
    """If the signal of a logout is lost, the next notification is not consecutive."""
    subscriber = subscriber_at(10)
    subscriber.deliver(signal(12, follows=11))
    assert subscriber.must_read


HISTORIES = st.lists(
    st.tuples(st.sampled_from(["carried", "during a read", "bare", "lost", "late", "gap"]), st.integers(0, 2)),
    max_size=40,
)


@given(HISTORIES, st.data())
def test_subscriber_converges_whichever_signals_are_lost(history: list[tuple[str, int]], data: Any) -> None:
    """Compare a model of the database (newest per name) with what a subscriber receives; reads overlap signals."""
    rows: dict[str, int] = {}
    known: dict[str, int] = {}
    subscriber, clock = Subscriber(SUSAN), 0
    late: list[Signal] = []
    for outcome, number in history:
        before = dict(rows)
        name, clock = f"n{number}", clock + 1
        rows[name] = clock
        if outcome == "gap":
            subscriber.deliver(Signal(SUSAN, clock))  # as reconcile does
        elif outcome == "during a read":
            read(subscriber, before, known, clock - 1, meanwhile=signal(clock, clock - 1, name))
        elif outcome == "late":
            late.append(signal(clock, clock - 1, name))
        elif outcome != "lost":
            subscriber.deliver(signal(clock, clock - 1 if outcome == "carried" else None, name))
        if late and data.draw(st.booleans()):
            subscriber.deliver(late.pop(0))
        if data.draw(st.booleans()):
            read_or_take(subscriber, rows, known, clock)
    subscriber.deliver(Signal(SUSAN, clock))  # as the sweep does
    read_or_take(subscriber, rows, known, clock)
    assert known == rows
    assert subscriber.position == clock


def read_or_take(subscriber: Subscriber, rows: dict[str, int], known: dict[str, int], clock: int) -> None:
    """Do what the feed does after a signal."""
    if subscriber.must_read:
        read(subscriber, rows, known, clock)
    else:
        for notification in subscriber.take_pending():
            assert notification.timestamp > max(known.values(), default=0)
            known[notification.name] = notification.timestamp


def read(
    subscriber: Subscriber, rows: dict[str, int], known: dict[str, int], clock: int, meanwhile: Signal | None = None
) -> None:
    """Read ``rows`` at ``clock``; the signal ``meanwhile`` arrives during the read."""
    subscriber.begin_read()
    if meanwhile:
        subscriber.deliver(meanwhile)
    known.update({name: stamp for name, stamp in rows.items() if stamp > max(known.values(), default=0)})
    subscriber.end_read(clock)


def test_signal_reaches_only_its_user() -> None:
    hub = Hub()
    with subscribed(hub, 1) as one, subscribed(hub, 2) as two:
        for subscriber in (one, two):
            subscriber.begin_read()
            subscriber.end_read(10)
        hub.deliver(Signal(1, 11))
        assert one.must_read
        assert not two.must_read
        assert hub.positions() == {1: 10, 2: 10}
        assert hub.positions([2, 3]) == {2: 10}


def test_hub_forgets_users_without_subscribers() -> None:
    hub = Hub()
    with subscribed(hub, 1), subscribed(hub, 1) as second:
        second.begin_read()
        second.end_read(5)
        assert hub.positions() == {1: -1}
    assert hub.positions() == {}


def test_observer_sees_first_and_last_subscriber_of_a_user() -> None:
    calls: list[tuple[str, int]] = []

    class Observer:
        def subscribe(self, user_id: int) -> None:
            calls.append(("subscribe", user_id))

        def unsubscribe(self, user_id: int) -> None:
            calls.append(("unsubscribe", user_id))

    hub = Hub(Observer())
    with subscribed(hub, 1):
        with subscribed(hub, 1), subscribed(hub, 2):
            assert calls == [("subscribe", 1), ("subscribe", 2)]
        assert calls[2:] == [("unsubscribe", 2)]
    assert calls[3:] == [("unsubscribe", 1)]


def test_failed_read_is_repeated() -> None:
    subscriber = subscriber_at(10)
    subscriber.deliver(signal(12))
    subscriber.begin_read()
    subscriber.read_failed()
    assert subscriber.must_read
    subscriber.begin_read()
    subscriber.end_read(12)
    assert not subscriber.must_read


def test_closing_hub_marks_current_and_new_subscribers() -> None:
    closed: list[tuple[int, float]] = []

    class Tab(Subscriber):
        def close(self, back_in: float) -> None:
            closed.append((self.user_id, back_in))

    class Watch(Tab):
        drains = False

    hub, before, after, watch = Hub(), Tab(1), Tab(2), Watch(3)
    hub.add(before)
    hub.stop_accepting(lambda: 3.0)
    assert hub.subscribers() == [before]
    hub.add(watch)
    hub.add(after)
    assert closed == [(2, 3.0)]
    hub.remove(before)
    assert not hub.empty.is_set()
    hub.remove(after)
    assert hub.empty.is_set()


def test_failing_subscriber_does_not_affect_others(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Subscriber):
        def advance(self) -> None:
            raise RuntimeError("a bug")

    hub, failing = Hub(), Failing(SUSAN)
    hub.add(failing)
    with subscribed(hub, SUSAN) as subscriber:
        subscriber.begin_read()
        hub.deliver(signal(11))
        assert subscriber.must_read
    assert caplog.messages == ["subscriber failed"]


def test_hub_knows_the_furthest_confirmation_of_each_user() -> None:
    class Confirming(Subscriber):
        def __init__(self, user_id: int, cursor: int) -> None:
            super().__init__(user_id)
            self.cursor = cursor

        def confirmed(self) -> int:
            return self.cursor

    hub = Hub()
    most, other = Confirming(SUSAN, 7), Subscriber(SUSAN + 1)
    for each in (Subscriber(SUSAN), most, Confirming(SUSAN, 5), other):
        hub.add(each)
    assert hub.confirmed() == {SUSAN: 7, SUSAN + 1: UNKNOWN}
    hub.remove(most)
    assert hub.confirmed()[SUSAN] == 5
    hub.remember_left({})
    hub.add(most)
    hub.remove(most)
    hub.remove(other)
    assert hub.confirmed() == {SUSAN: 7, SUSAN + 1: UNKNOWN}
    hub.remember_left({SUSAN: 6})
    assert hub.confirmed()[SUSAN] == 7
    hub.remember_left({SUSAN: 7})
    assert hub.confirmed()[SUSAN] == 5

"""Listeners: what is handed on without a read, what needs one, and that nothing is lost in between."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microblog_rt.hub import NAMES_KEPT, Hub, Listener
from microblog_rt.protocol import Notice, Wake
from tests.clients import DEADLINE

SUSAN = 1


def wake(clock: int, follows: int | None = None, name: str = "n") -> Wake:
    return Wake(SUSAN, clock, follows, None if follows is None else Notice(name, str(clock), clock))


def at(clock: int) -> Listener:
    """A listener that has read up to ``clock``."""
    listener = Listener(SUSAN)
    listener.reading()
    listener.has_read(clock)
    return listener


def told(listener: Listener) -> list[int]:
    return [each.timestamp for each in listener.take()]


def test_a_new_listener_must_read_first() -> None:
    assert Listener(SUSAN).must_read


def test_a_notice_that_follows_is_handed_on_without_a_read() -> None:
    listener = at(10)
    listener.wake(wake(11, follows=10))
    assert not listener.must_read
    assert told(listener) == [11]
    assert listener.position == 11


def test_a_notice_that_follows_something_unknown_needs_a_read() -> None:
    listener = at(10)
    listener.wake(wake(13, follows=12))
    assert listener.must_read
    assert told(listener) == []


def test_a_wake_up_without_a_notice_needs_a_read() -> None:
    listener = at(10)
    listener.wake(wake(11))
    assert listener.must_read


def test_a_wake_up_at_or_behind_the_position_is_dropped() -> None:
    listener = at(10)
    listener.wake(wake(10, follows=9))
    listener.wake(wake(9))
    assert not listener.must_read
    assert told(listener) == []


def test_of_several_notices_of_a_name_a_slow_reader_gets_the_newest() -> None:
    listener = at(10)
    listener.wake(wake(11, follows=10, name="a"))
    listener.wake(wake(12, follows=11, name="b"))
    listener.wake(wake(13, follows=12, name="a"))
    assert told(listener) == [12, 13]


def test_what_a_slow_reader_holds_is_bounded() -> None:
    listener = at(0)
    for clock in range(1, 10 * NAMES_KEPT):
        listener.wake(wake(clock, follows=clock - 1, name=f"n{clock}"))
    assert listener.must_read
    assert told(listener) == []


def test_a_wake_up_during_a_read_that_the_read_covers_needs_no_other() -> None:
    listener = at(10)
    listener.reading()
    listener.wake(wake(12))
    listener.has_read(12)
    assert not listener.must_read


def test_a_notice_during_a_read_that_the_read_does_not_cover_is_kept() -> None:
    listener = at(10)
    listener.reading()
    listener.wake(wake(11, follows=10, name="a"))
    listener.wake(wake(12, follows=11, name="b"))
    listener.has_read(11)
    assert not listener.must_read
    assert told(listener) == [12]


def test_a_gap_during_a_read_needs_another_read() -> None:
    listener = at(10)
    listener.reading()
    listener.distrust()
    listener.has_read(99)
    assert listener.must_read


def test_a_session_end_breaks_the_chain_so_that_the_next_notice_needs_a_read() -> None:
    """The tick of a logout wakes nobody by itself if its word is lost; the next notice does not follow on."""
    listener = at(10)
    listener.wake(wake(12, follows=11))
    assert listener.must_read


HISTORIES = st.lists(
    st.tuples(st.sampled_from(["carried", "during a read", "bare", "lost", "late", "gap"]), st.integers(0, 2)),
    max_size=40,
)


@given(HISTORIES, st.data())
def test_a_listener_ends_up_with_everything_whatever_becomes_of_the_wake_ups(
    history: list[tuple[str, int]], data: Any
) -> None:
    """A model of the database (newest per name) against what a listener is told, with reads that overlap wakes."""
    rows: dict[str, int] = {}
    known: dict[str, int] = {}
    listener, clock = Listener(SUSAN), 0
    late: list[Wake] = []
    for fate, number in history:
        before = dict(rows)
        name, clock = f"n{number}", clock + 1
        rows[name] = clock
        if fate == "gap":
            listener.distrust()
        elif fate == "during a read":
            read(listener, before, known, clock - 1, meanwhile=wake(clock, clock - 1, name))
        elif fate == "late":
            late.append(wake(clock, clock - 1, name))
        elif fate != "lost":
            listener.wake(wake(clock, clock - 1 if fate == "carried" else None, name))
        if late and data.draw(st.booleans()):
            listener.wake(late.pop(0))
        if data.draw(st.booleans()):
            look(listener, rows, known, clock)
    listener.wake(Wake(SUSAN, clock))  # the sweep
    look(listener, rows, known, clock)
    assert known == rows
    assert listener.position == clock


def look(listener: Listener, rows: dict[str, int], known: dict[str, int], clock: int) -> None:
    """What the feed does once it is woken."""
    if listener.must_read:
        read(listener, rows, known, clock)
    else:
        for notice in listener.take():
            assert notice.timestamp > max(known.values(), default=0)
            known[notice.name] = notice.timestamp


def read(
    listener: Listener, rows: dict[str, int], known: dict[str, int], clock: int, meanwhile: Wake | None = None
) -> None:
    """A read that sees ``rows`` at ``clock``, while a wake-up may come."""
    listener.reading()
    if meanwhile:
        listener.wake(meanwhile)
    known.update({name: stamp for name, stamp in rows.items() if stamp > max(known.values(), default=0)})
    listener.has_read(clock)


async def test_waiting_ends_with_a_wake_up() -> None:
    with (hub := Hub()).listen(SUSAN) as listener:
        listener.reading()
        listener.has_read(10)
        waiting = asyncio.create_task(listener.wait(asyncio.get_running_loop().time() + 60))
        await asyncio.sleep(0)
        assert not waiting.done()
        hub.wake(wake(11, follows=10))
        await waiting
        assert told(listener) == [11]


async def test_waiting_ends_at_the_deadline_with_nothing() -> None:
    listener = at(10)
    await listener.wait(asyncio.get_running_loop().time())
    assert not listener.must_read
    assert told(listener) == []


async def test_the_alarm_of_a_deadline_serves_for_every_wait_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = at(10)
    loop = asyncio.get_running_loop()
    real, stands = loop.time, loop.time()
    monkeypatch.setattr(loop, "time", lambda: stands)  # however long this takes, it is not the deadline yet
    deadline = stands + 0.05
    for clock in (11, 12):
        loop.call_soon(listener.wake, wake(clock, follows=clock - 1))
        await listener.wait(deadline)
        assert told(listener) == [clock]
    monkeypatch.setattr(loop, "time", real)
    async with asyncio.timeout(DEADLINE):
        await listener.wait(deadline)
        assert loop.time() >= deadline
        await listener.wait(deadline + 0.01)
    listener.leave()


def test_a_wake_up_reaches_its_user_alone() -> None:
    hub = Hub()
    with hub.listen(1) as one, hub.listen(2) as two:
        for listener in (one, two):
            listener.reading()
            listener.has_read(10)
        hub.wake(Wake(1, 11))
        assert one.must_read
        assert not two.must_read
        hub.wake_all()
        assert two.must_read


def test_who_has_left_is_forgotten() -> None:
    hub = Hub()
    with hub.listen(1), hub.listen(1) as second:
        second.reading()
        second.has_read(5)
        assert hub.positions() == {1: -1}
    assert hub.positions() == {}


def test_who_wants_to_know_is_told_of_the_first_and_the_last_listener_of_a_user() -> None:
    told: list[tuple[str, int]] = []

    class Noting:
        def join(self, user_id: int) -> None:
            told.append(("join", user_id))

        def leave(self, user_id: int) -> None:
            told.append(("leave", user_id))

    hub = Hub(Noting())
    with hub.listen(1):
        with hub.listen(1), hub.listen(2):
            assert told == [("join", 1), ("join", 2)]
        assert told[2:] == [("leave", 2)]
    assert told[3:] == [("leave", 1)]


def test_distrust_of_word_of_one_user_makes_theirs_alone_read() -> None:
    hub = Hub()
    with hub.listen(1) as one, hub.listen(1) as other, hub.listen(2) as two:
        for listener in (one, other, two):
            listener.reading()
            listener.has_read(10)
        hub.distrust(1)
        hub.distrust(3)
        assert (one.must_read, other.must_read, two.must_read) == (True, True, False)


def test_a_closing_hub_tells_those_who_listen_and_those_who_come() -> None:
    hub = Hub()
    with hub.listen(1) as before:
        hub.refuse_newcomers(lambda: 3.0)
        before.close(2)
        assert before.closing
        assert not hub.emptied.is_set()
        with hub.listen(2) as after:
            assert after.closing
    assert hub.emptied.is_set()

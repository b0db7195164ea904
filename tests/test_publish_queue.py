"""What the buses over a network share: a signal-up as text, what waits to be told, and a broker that is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from microblog_rt.bus import outage, publish_queue, wire
from microblog_rt.bus.outage import Outage
from microblog_rt.bus.publish_queue import PublishQueue
from microblog_rt.protocol import Signal
from tests.buses import NONE_OF_OURS, Waiting, noting, plain, signal
from tests.clients import DEADLINE


@pytest.mark.parametrize("packed", NONE_OF_OURS, ids=range(len(NONE_OF_OURS)))
def test_what_is_no_wake_up_is_told_from_what_is(packed: bytes) -> None:
    with pytest.raises(ValueError):
        wire.unpack(packed)


@pytest.mark.parametrize(
    "told", [signal(1), Signal(1, 2), signal(7, 10**15, '{"a": "é\\ud800"}'), signal(2**62, 2**62)]
)
def test_a_wake_up_is_the_same_on_the_other_side(told: Signal) -> None:
    origin, heard = wire.unpack(wire.pack("me", told))
    assert (origin, plain(heard)) == ("me", plain(told))


class Broker:
    """What an publish_queue tells, by batches, once its ``troubles`` are over."""

    def __init__(self, *troubles: Exception) -> None:
        self.troubles = list(troubles)
        self.told = Waiting()
        self.asked = asyncio.Event()

    async def send(self, signals: list[Signal]) -> None:
        self.asked.set()
        await asyncio.sleep(0)
        if self.troubles:
            raise self.troubles.pop(0)
        self.told.add([plain(each) for each in signals])


@pytest.fixture(autouse=True)
def last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are heard out, on a machine that may be busy."""
    monkeypatch.setattr(publish_queue, "LAST_WORDS", DEADLINE)


@asynccontextmanager
async def outbox_to(broker: Broker) -> AsyncIterator[PublishQueue]:
    box = PublishQueue(broker.send, Outage("The broker", "nothing is told"))
    yield box
    await box.close()


async def test_of_one_user_the_newest_wake_up_waits_and_carries_nothing() -> None:
    broker = Broker()
    async with outbox_to(broker) as box:
        for clock in (11, 13, 12):
            box.put(signal(1, clock, "1"))
        box.put(signal(2, 20, "2"))
    assert broker.told.all == [[plain(Signal(1, 13)), plain(signal(2, 20, "2"))]]


async def test_what_could_not_be_told_is_told_later_with_what_came_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "SHORTEST", 0.001)
    broker = Broker(ConnectionError(), TimeoutError())
    async with outbox_to(broker) as box:
        box.put(signal(1, 11, "1"))
        box.put(signal(2, 21, "2"))
        await broker.asked.wait()
        box.put(signal(1, 12, "3"))
        box.put(signal(3, 31, "4"))
        await broker.told.until(bool)
        box.put(signal(4, 41, "5"))
    assert broker.told.all == [
        [plain(Signal(2, 21)), plain(Signal(1, 12)), plain(Signal(3, 31))],
        [plain(signal(4, 41, "5"))],
    ]


async def test_much_is_told_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_queue, "BATCH", 2)
    broker = Broker()
    async with outbox_to(broker) as box:
        for user_id in (1, 2, 3):
            box.put(signal(user_id))
    assert [[each[0] for each in batch] for batch in broker.told.all] == [[1, 2], [3]]


async def test_of_too_many_the_longest_waiting_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_queue, "KEPT", 3)
    broker = Broker()
    async with outbox_to(broker) as box:
        for user_id in (1, 2, 3, 4, 2, 5):
            box.put(signal(user_id))
    assert [[each[0] for each in batch] for batch in broker.told.all] == [[4, 2, 5]]


async def test_an_error_nobody_thought_of_does_not_end_the_telling() -> None:
    broker = Broker(RuntimeError("a bug"))
    with noting() as said:
        async with outbox_to(broker) as box:
            box.put(signal(1))
            await said.until("RuntimeError: a bug")
            box.put(signal(2))
    assert broker.told.all == [[plain(signal(2))]]


async def test_an_outage_is_waited_for_longer_each_time_up_to_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(outage.random, "uniform", lambda _, most: most)  # type: ignore[attr-defined]
    monkeypatch.setattr(outage.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    trouble = Outage("The broker", "nothing is told")
    with noting() as said:
        for _ in range(2000):
            await trouble.wait_out(TimeoutError())
        assert pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
        assert set(pauses[6:]) == {2.0}
        trouble.over()
        trouble.over()
        await trouble.wait_out(OSError("gone"))
    assert pauses[-1] == 0.1
    assert said.lines.all == [
        "The broker is away, so that nothing is told: no answer",
        "The broker is back (it was away, so that nothing is told)",
        "The broker is away, so that nothing is told: gone",
    ]

"""What the buses over a network share: encoding of signals, the publish queue, and outages."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from microblog_rt.bus import outage, publish_queue, wire
from microblog_rt.bus.outage import Outage
from microblog_rt.bus.publish_queue import PublishQueue
from microblog_rt.protocol import Signal
from microblog_rt.timeouts import Timeouts
from tests.buses import INVALID_SIGNALS, Collector, captured_log, comparable, signal
from tests.clients import DEADLINE


@pytest.mark.parametrize("packed", INVALID_SIGNALS, ids=range(len(INVALID_SIGNALS)))
def test_invalid_signals_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError):
        wire.unpack(packed)


@pytest.mark.parametrize(
    "packed", [signal(1), Signal(1, 2), signal(7, 10**15, '{"a": "é\\ud800"}'), signal(2**62, 2**62)]
)
def test_unpack_inverts_pack(packed: Signal) -> None:
    origin, unpacked = wire.unpack(wire.pack("origin", packed))
    assert (origin, comparable(unpacked)) == ("origin", comparable(packed))


class Broker:
    """Collects the batches it was sent; the first calls raise ``errors``."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.sent = Collector()
        self.called = asyncio.Event()

    async def send(self, signals: list[Signal]) -> None:
        self.called.set()
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        self.sent.add([comparable(each) for each in signals])


@asynccontextmanager
async def queue_to(broker: Broker) -> AsyncIterator[PublishQueue]:
    """A publish queue; its end waits until all signals are sent."""
    timeouts = Timeouts(publish_on_close=DEADLINE, broker_retry_min=0.001)
    queue = PublishQueue(broker.send, Outage("Broker", "publishing signals", timeouts), timeouts)
    yield queue
    await queue.close()


async def test_one_user_keeps_the_newest_clock_and_no_notification() -> None:
    broker = Broker()
    async with queue_to(broker) as queue:
        for clock in (11, 13, 12):
            queue.put(signal(1, clock, "1"))
        queue.put(signal(2, 20, "2"))
    assert broker.sent.items == [[comparable(Signal(1, 13)), comparable(signal(2, 20, "2"))]]


async def test_failed_batch_is_sent_again_with_newer_signals() -> None:
    broker = Broker(ConnectionError(), TimeoutError())
    async with queue_to(broker) as queue:
        queue.put(signal(1, 11, "1"))
        queue.put(signal(2, 21, "2"))
        await broker.called.wait()
        queue.put(signal(1, 12, "3"))
        queue.put(signal(3, 31, "4"))
        await broker.sent.until(bool)
        queue.put(signal(4, 41, "5"))
    assert broker.sent.items == [
        [comparable(Signal(2, 21)), comparable(Signal(1, 12)), comparable(Signal(3, 31))],
        [comparable(signal(4, 41, "5"))],
    ]


async def test_signals_are_sent_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_queue, "BATCH", 2)
    broker = Broker()
    async with queue_to(broker) as queue:
        for user_id in (1, 2, 3):
            queue.put(signal(user_id))
    assert [[each[0] for each in batch] for batch in broker.sent.items] == [[1, 2], [3]]


async def test_full_queue_drops_the_oldest_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_queue, "MAX_USERS", 3)
    broker = Broker()
    async with queue_to(broker) as queue:
        for user_id in (1, 2, 3, 4, 2, 5):
            queue.put(signal(user_id))
    assert [[each[0] for each in batch] for batch in broker.sent.items] == [[4, 2, 5]]


async def test_unexpected_error_drops_its_batch_only() -> None:
    broker = Broker(RuntimeError("a bug"))
    with captured_log() as log:
        async with queue_to(broker) as queue:
            queue.put(signal(1))
            await log.until("RuntimeError: a bug")
            queue.put(signal(2))
    assert broker.sent.items == [[comparable(signal(2))]]


async def test_outage_pauses_grow_to_two_seconds_and_log_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(outage.random, "uniform", lambda _, most: most)  # type: ignore[attr-defined]
    monkeypatch.setattr(outage.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    broker = Outage("Broker", "publishing signals")
    with captured_log() as log:
        for _ in range(2000):
            await broker.wait_before_retry(TimeoutError())
        assert pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
        assert set(pauses[6:]) == {2.0}
        broker.end()
        broker.end()
        await broker.wait_before_retry(OSError("gone"))
    assert pauses[-1] == 0.1
    assert [re.sub(r"[\d.]+ s$", "N s", line) for line in log.lines.items] == [
        "Broker unavailable for publishing signals: no answer",
        "Broker available again for publishing signals after N s",
        "Broker unavailable for publishing signals: gone",
    ]

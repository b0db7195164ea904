"""The contract in ``bus/base.py``, for every backend; the backends are found by file name."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from microblog_rt.bus import Gap, wire
from microblog_rt.timeouts import Timeouts
from tests import buses
from tests.bus.backends import BACKEND_CLASSES, BACKENDS, MemoryBackend
from tests.buses import (
    FAST_HEARTBEAT,
    FAST_RETRY,
    FREQUENT_HEARTBEAT,
    GAP,
    NO_DELAY,
    PATIENT,
    USERS,
    CapturedLog,
    Process,
    comparable,
    running,
    short_broker_timeouts,
    signal,
)
from tests.clients import DEADLINE
from tests.timing import quickest

OVER_NETWORK = [each for each in BACKENDS if BACKEND_CLASSES[each].over_network]
CROSSING = [each for each in BACKENDS if BACKEND_CLASSES[each].crosses_processes]


def test_every_backend_is_tested() -> None:
    assert sorted(BACKEND_CLASSES) == BACKENDS
    assert OVER_NETWORK == ["postgresql", "redis"]


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[MemoryBackend]:
    """One backend after the other; a test may select some of them."""
    backend = BACKEND_CLASSES[request.param](request)
    yield backend
    if backend.over_network:
        await backend.resume()


def receiving_process(
    backend: MemoryBackend, timeouts: Timeouts = PATIENT, users: Iterable[int] = USERS
) -> AbstractAsyncContextManager[Process]:
    return buses.receiving_process(backend.url, backend.database_url, timeouts, users)


def idle_process(backend: MemoryBackend, timeouts: Timeouts = PATIENT) -> AbstractAsyncContextManager[Process]:
    return buses.idle_process(backend.url, backend.database_url, timeouts)


crosses_processes = pytest.mark.parametrize("backend", CROSSING, indirect=True)
over_network = pytest.mark.parametrize("backend", OVER_NETWORK, indirect=True)


async def test_first_connection_yields_no_gap_and_no_own_signals(backend: MemoryBackend) -> None:
    async with receiving_process(backend) as receiver:
        await backend.publish(receiver, signal(1))
        await backend.publish(receiver, signal(2))
        if backend.over_network:
            async with idle_process(backend) as sender:
                await backend.publish(sender, signal(3))
                await receiver.until_received(comparable(signal(3)))
    assert set(receiver.received.items) <= {backend.received(signal(3))}


async def test_unused_bus_can_be_closed(backend: MemoryBackend) -> None:
    async with idle_process(backend):
        pass


async def test_closing_twice_and_publishing_after_close_do_nothing(backend: MemoryBackend) -> None:
    async with idle_process(backend) as process:
        process.publish(signal(1))
        await process.bus.close()
    process.publish(signal(1))


@crosses_processes
async def test_signal_reaches_all_other_processes(backend: MemoryBackend) -> None:
    async with (
        receiving_process(backend) as sender,
        receiving_process(backend) as second,
        receiving_process(backend) as third,
    ):
        for number in range(5):
            published = signal(number, payload=f'"{number} é"')
            await backend.publish(sender, published)
            await second.until_received(backend.received(published))
            await third.until_received(backend.received(published))


@crosses_processes
async def test_process_that_does_not_receive_can_publish(backend: MemoryBackend) -> None:
    async with receiving_process(backend) as receiver:
        async with idle_process(backend, replace(PATIENT, publish_on_close=DEADLINE)) as command:
            await backend.publish(command, signal(1))
        await receiver.until_received(backend.received(signal(1)))


@crosses_processes
async def test_rollback_publishes_nothing(backend: MemoryBackend) -> None:
    async with receiving_process(backend) as receiver, idle_process(backend) as sender:
        await backend.publish(sender, signal(1), commit=False)
        assert receiver.received.items == []
        await backend.publish(sender, signal(2))
        await receiver.until_received(backend.received(signal(2)))
    assert set(receiver.received.items) == {backend.received(signal(2))}


@crosses_processes
async def test_signals_arrive_once_subscribed(backend: MemoryBackend) -> None:
    async with receiving_process(backend, users=[]) as receiver, idle_process(backend) as sender:
        for user_id in (1, 2):
            receiver.bus.subscribe(user_id)
            await receiver.bus.wait_subscribed(user_id)
            await backend.publish(sender, signal(user_id))
            await receiver.until_received(backend.received(signal(user_id)))
            receiver.bus.unsubscribe(user_id)
            receiver.bus.subscribe(user_id)
            await receiver.bus.wait_subscribed(user_id)
            await backend.publish(sender, signal(user_id, 20))
            await receiver.until_received(backend.received(signal(user_id, 20)))
    assert GAP not in receiver.received.items


@crosses_processes
async def test_events_can_be_closed_and_iterated_again(backend: MemoryBackend) -> None:
    async with idle_process(backend) as receiver, idle_process(backend) as sender:
        receiver.bus.subscribe(1)
        events = receiver.bus.events()
        first = asyncio.create_task(anext(events))
        await receiver.bus.connected.wait()
        await backend.publish(sender, signal(1))
        assert comparable(await first) == backend.received(signal(1))
        await events.aclose()
        assert not receiver.bus.connected.is_set()
        assert receiver.bus.health().state == "disconnected"
        events = receiver.bus.events()
        assert isinstance(await anext(events), Gap)
        await events.aclose()


@crosses_processes
async def test_health_reports_the_last_heartbeat(backend: MemoryBackend) -> None:
    async with idle_process(backend) as process:
        health = process.bus.health()
        assert (health.state, health.heard_seconds_ago) == ("disconnected", None)
    async with receiving_process(backend, replace(PATIENT, heartbeat_interval=0.05)) as process:
        await process.until_connected()
        health = process.bus.health()
        assert health.heard_seconds_ago is not None
        assert 0 <= health.heard_seconds_ago < DEADLINE


@over_network
async def test_lost_connection_yields_one_gap(backend: MemoryBackend, log: CapturedLog) -> None:
    async with receiving_process(backend, FAST_RETRY) as receiver, idle_process(backend) as sender:
        await backend.disconnect()
        await receiver.until_received(GAP)
        assert receiver.bus.connected.is_set()
        await backend.publish(sender, signal(1))
        await receiver.until_received(comparable(signal(1)))
    assert receiver.received.items == [GAP, comparable(signal(1))]
    assert log.count("unavailable for receiving signals") == 1
    assert log.count("available again for receiving signals after ") == 1


@over_network
async def test_gap_precedes_signals_of_the_new_connection(backend: MemoryBackend, log: CapturedLog) -> None:
    async with receiving_process(backend, FAST_RETRY) as receiver, idle_process(backend) as sender:
        await backend.disconnect()
        await log.until("available again for receiving signals")
        await backend.publish(sender, signal(1))
        await receiver.until_received(comparable(signal(1)))
    assert receiver.received.items == [GAP, comparable(signal(1))]


@over_network
async def test_hanging_broker_delays_no_call_and_yields_a_gap(backend: MemoryBackend, log: CapturedLog) -> None:
    async with (
        receiving_process(backend, FREQUENT_HEARTBEAT) as receiver,
        idle_process(backend, FREQUENT_HEARTBEAT) as sender,
    ):
        await receiver.until_connected()
        await backend.publish(sender, signal(1))
        await receiver.until_received(comparable(signal(1)))
        with short_broker_timeouts(receiver, sender):
            await receiver.until_next_heartbeat()
            usual = await quickest(lambda: backend.publish(sender, signal(2)), 0)  # includes the transaction
            await backend.pause()
            assert await quickest(lambda: backend.publish(sender, signal(2)), usual + NO_DELAY) < usual + NO_DELAY
            await log.until("unavailable for receiving signals")
            assert receiver.bus.health().state == "disconnected"
            assert await quickest(lambda: backend.publish(sender, signal(3)), usual + NO_DELAY) < usual + NO_DELAY
            assert await quickest(lambda: receiver.bus.wait_subscribed(1), NO_DELAY) < NO_DELAY
            await backend.resume()
            await receiver.until_received(GAP)
        await receiver.until_next_heartbeat()
        await backend.publish(sender, signal(4))
        await receiver.until_received(comparable(signal(4)))


@over_network
async def test_missing_heartbeat_reconnects(backend: MemoryBackend, log: CapturedLog) -> None:
    """The connection is open and answers; a query over it would succeed."""
    async with receiving_process(backend, FREQUENT_HEARTBEAT) as receiver, idle_process(backend) as sender:
        await receiver.until_connected()
        receiver.bus._heartbeat_channel = "microblog_rt_another"  # type: ignore[attr-defined]
        with short_broker_timeouts(receiver):
            await log.until("no heartbeat received for 0.5 seconds")
        await receiver.until_received(GAP)
        await receiver.until_next_heartbeat()
        await backend.publish(sender, signal(1))
        await receiver.until_received(comparable(signal(1)))
    assert receiver.received.items == [GAP, comparable(signal(1))]


@over_network
async def test_received_heartbeats_cause_no_reconnect(backend: MemoryBackend, log: CapturedLog) -> None:
    async with receiving_process(backend, FAST_HEARTBEAT) as receiver:
        async with asyncio.timeout(DEADLINE):
            for _ in range(12):  # intervals of 0.1 seconds: more than twice ``heartbeat_lost``
                await receiver.until_next_heartbeat()
    assert (receiver.received.items, log.lines.items) == ([], [])


def test_default_timeouts_fit_together() -> None:
    timeouts = Timeouts()
    assert timeouts.heartbeat_lost == 10.0
    assert timeouts.heartbeat_lost % timeouts.heartbeat_interval == 0
    assert timeouts.broker_answer <= timeouts.heartbeat_interval
    assert timeouts.broker_answer < timeouts.bus_start


@over_network
async def test_wait_subscribed_is_bounded_while_the_broker_hangs(backend: MemoryBackend) -> None:
    async with idle_process(backend, Timeouts()) as process:
        await backend.pause()
        process.bus.subscribe(1)
        async with running(process.receive()):
            bound = Timeouts().subscribe + 0.1
            assert await quickest(lambda: process.bus.wait_subscribed(1), bound) < bound
            await backend.resume()


@over_network
async def test_large_notification_is_not_sent(backend: MemoryBackend) -> None:
    async with receiving_process(backend) as receiver, idle_process(backend) as sender:
        await backend.publish(sender, signal(1, payload=f'"{"x" * wire.MAX_BYTES}"'))
        await backend.publish(sender, signal(2, payload='"é"'))
        await receiver.until_received(comparable(signal(2, payload='"é"')))
    assert receiver.received.items[0] == comparable(signal(1))

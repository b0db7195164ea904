"""The feed while the database or the bus fails, and when signals are lost."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from microblog_rt import metrics
from microblog_rt.bus import BusEvent, Changed, MemoryBus
from microblog_rt.errors import Draining, Unavailable
from microblog_rt.feed import Feed
from microblog_rt.hub import Hub
from microblog_rt.models import User
from microblog_rt.protocol import FURTHEST, Signal
from microblog_rt.services import Services
from microblog_rt.storage import mailboxes
from microblog_rt.storage import notifications as notification_rows
from microblog_rt.timeouts import Timeouts
from tests.asgi_server import warnings_logged
from tests.clients import DEADLINE, Client, send, signals_lost, signed_in, subscribed
from tests.conftest import PATIENT

pytestmark = pytest.mark.sqlite


@pytest.fixture
def timeouts() -> Timeouts:
    return replace(PATIENT, feed_retry_min=0.1, feed_retry_max=0.1, bus_restart=0.01)


@pytest.fixture
def lost_signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What each sweep adds to the number of lost signals."""
    counts: list[int] = []
    monkeypatch.setattr(metrics, "SIGNALS_LOST", type("Counted", (), {"count": staticmethod(counts.append)}))
    return counts


def fail_once(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, error: Exception) -> Callable[[], bool]:
    """Let the first call of ``target.name`` raise ``error``; returns a function: whether it has."""
    real, errors = getattr(target, name), [error]

    async def call(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return await real(*arguments)

    monkeypatch.setattr(target, name, call)
    return lambda: not errors


async def test_stream_sends_heartbeats_and_retries_a_failed_read(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = Client(services, await signed_in(services, susan))
    await tab.connect(heartbeat=0.01)
    with signals_lost():
        await send(services, susan)
    failed = fail_once(monkeypatch, notification_rows, "since", Unavailable())
    services.hub.deliver(Signal(susan.id, FURTHEST))  # the stream must read
    await tab.until(failed)
    pages = len(tab.pages)
    await tab.until(lambda: tab.state == {"unread_message_count": 1})
    assert tab.pages[pages] == [], "a heartbeat before the retry"
    await tab.disconnect()


async def test_sweep_continues_silently_while_the_database_is_unavailable(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = fail_once(monkeypatch, services.feed, "sweep_once", Unavailable())
    sweeping = asyncio.create_task(services.feed.sweep(0.001))
    async with asyncio.timeout(DEADLINE):
        while not failed():
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert not sweeping.done()
    sweeping.cancel()
    assert caplog.messages == []


async def test_sweep_counts_a_signal_that_has_not_arrived_by_the_next_one(
    services: Services, susan: User, lost_signals: list[int]
) -> None:
    with subscribed(services.hub, susan.id):
        with signals_lost():
            await send(services, susan)
        await services.feed.sweep_once()
        await services.feed.sweep_once()
    assert lost_signals == [0, 1]


async def test_sweep_does_not_count_a_delivered_signal_as_lost(
    services: Services, susan: User, lost_signals: list[int]
) -> None:
    with subscribed(services.hub, susan.id) as subscriber:
        await send(services, susan)
        await services.feed.sweep_once()
        assert subscriber.must_read
        await services.feed.sweep_once()
    assert lost_signals == [0, 0]


async def test_sweep_before_the_signal_does_not_count_it_as_lost(
    services: Services, susan: User, lost_signals: list[int]
) -> None:
    """On sqlite:// the signal is "something changed", and the sweep may come first."""
    with subscribed(services.hub, susan.id) as subscriber:
        await services.storage.write(lambda tx: mailboxes.tick(tx, susan.id))  # as another process does
        await services.feed.sweep_once()
        subscriber.begin_read()
        async with services.storage.reading() as reading:
            subscriber.end_read((await mailboxes.clocks(reading, [susan.id]))[susan.id])
        await services.feed.reconcile()
        await services.feed.sweep_once()
    assert lost_signals == [0, 0]


async def test_sweep_without_subscribers_runs_no_query(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.storage, "reading", None)
    await services.feed.sweep_once()
    assert await services.feed.reconcile() == {}


@pytest.mark.parametrize("fails", [True, False])
async def test_failed_or_changed_bus_recovers_lost_signals(
    services: Services, susan: User, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Bus(MemoryBus):
        runs = 0

        async def events(self) -> AsyncGenerator[BusEvent]:
            self.runs += 1
            if fails and self.runs == 1:
                raise RuntimeError("a bug")
            if not fails:
                yield Changed()

    tab = Client(services, await signed_in(services, susan))
    await tab.connect()
    with signals_lost():
        await send(services, susan)
    bus = Bus()
    await services.feed.receive(bus)
    await tab.until(lambda: tab.state == {"unread_message_count": 1})
    assert bus.runs == (2 if fails else 1)
    assert warnings_logged(caplog.records) == ["bus failed, restarting it"] * fails
    await tab.disconnect()


@pytest.mark.parametrize(
    ("error", "logged"),
    [(Unavailable(), []), (RuntimeError("a bug"), ["reconcile failed; the next sweep retries"])],
)
async def test_receiving_continues_after_a_failed_reconcile(
    services: Services, susan: User, error: Exception, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    failed = asyncio.Event()

    class Failing(Feed):
        async def reconcile(self, user_ids: Iterable[int] | None = None, *, by_sweep: bool = False) -> dict[int, int]:
            failed.set()
            raise error

    class Bus(MemoryBus):
        async def events(self) -> AsyncGenerator[BusEvent]:
            yield Changed()
            await failed.wait()
            yield Signal(susan.id, FURTHEST)

    with subscribed(services.hub, susan.id) as subscriber:
        subscriber.begin_read()
        await Failing(services.storage, services.hub, services.bus).receive(Bus())
        assert subscriber.must_read
    assert caplog.messages == logged


def test_closing_hub_refuses_with_the_time_to_return() -> None:
    hub = Hub()
    hub.check_open()
    hub.stop_accepting(lambda: 3.0)
    with pytest.raises(Draining) as refused:
        hub.check_open()
    assert refused.value.back_in == 3.0

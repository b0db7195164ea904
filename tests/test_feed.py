"""The feed delivers every change once and in order, and nothing after the end of the session."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from microblog_rt.accounts import Reader
from microblog_rt.bus import BusEvent, Gap, MemoryBus
from microblog_rt.errors import Draining, SignedOut
from microblog_rt.feed import Feed, reads
from microblog_rt.hub import Hub
from microblog_rt.models import User
from microblog_rt.protocol import FURTHEST, Signal
from microblog_rt.services import Services
from microblog_rt.storage import accounts as rows
from microblog_rt.storage import notifications as notification_rows
from microblog_rt.storage import sql_time
from tests.clients import DEADLINE, Client, send, signals_lost, signed_in


@pytest.fixture
async def reader(services: Services, susan: User) -> Reader:
    return await signed_in(services, susan)


@pytest.fixture
async def tab(services: Services, reader: Reader) -> AsyncIterator[Client]:
    tab = Client(services, reader)
    await tab.connect()
    yield tab
    await tab.disconnect()


def unread_count(number: int) -> dict[str, int]:
    return {"unread_message_count": number}


async def test_message_reaches_a_tab_without_a_read(
    services: Services, susan: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(services, susan)
    await tab.until(lambda: tab.state == unread_count(1))

    async def no_read(*_: object) -> None:
        raise AssertionError("a consecutive notification needs no read")

    monkeypatch.setattr(notification_rows, "since", no_read)
    await send(services, susan)
    await tab.until(lambda: tab.state == unread_count(2))


async def test_sweep_recovers_a_lost_signal(services: Services, susan: User, tab: Client) -> None:
    with signals_lost():
        await send(services, susan)
    assert tab.state == {}
    await services.feed.sweep_once()
    await tab.until(lambda: tab.state == unread_count(1))


async def test_sweep_signals_only_users_who_are_behind(
    services: Services, susan: User, john: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[int] = []
    monkeypatch.setattr(Hub, "deliver", lambda _, signal, **__: signalled.append(signal.user_id))
    await send(services, susan)
    await send(services, john)
    assert signalled == [susan.id, john.id]
    await services.feed.sweep_once()
    assert signalled[2:] == [susan.id]


async def test_sweep_sends_no_signal_to_current_subscribers(
    services: Services, susan: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(services, susan)
    await tab.until(lambda: tab.state == unread_count(1))
    signalled: list[Signal] = []
    monkeypatch.setattr(Hub, "deliver", lambda _, signal, **__: signalled.append(signal))
    await services.feed.sweep_once()
    assert signalled == []


async def test_sweeps_continue_after_a_failure(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    third_sweep = asyncio.Event()
    sweeps = 0

    async def failing() -> None:
        nonlocal sweeps
        sweeps += 1
        if sweeps == 3:
            third_sweep.set()
        raise RuntimeError("database unavailable")

    monkeypatch.setattr(services.feed, "sweep_once", failing)
    sweeping = asyncio.create_task(services.feed.sweep(0.001))
    async with asyncio.timeout(DEADLINE):
        await third_sweep.wait()
    sweeping.cancel()
    assert "sweep failed" in caplog.text


async def test_bus_gap_recovers_lost_notifications(services: Services, susan: User, tab: Client) -> None:
    with signals_lost():
        await send(services, susan)

    await services.feed.receive(OneGap())
    await tab.until(lambda: tab.state == unread_count(1))


async def test_signal_from_another_process_reaches_a_tab(
    services: Services, susan: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[Signal] = []
    with monkeypatch.context() as patch:
        patch.setattr(Hub, "deliver", lambda _, signal: signals.append(signal))
        await send(services, susan)

    class OtherProcess(MemoryBus):
        async def events(self) -> AsyncGenerator[BusEvent]:
            for signal in signals:
                yield signal

    await services.feed.receive(OtherProcess())
    await tab.until(lambda: tab.state == unread_count(1))


async def test_commit_during_the_first_read_is_delivered(
    services: Services, susan: User, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats are due soon, so that the test does not hang if the signal is lost."""
    real = notification_rows.since

    async def read_then_send(*arguments: Any) -> notification_rows.Page | None:
        page = await real(*arguments)
        monkeypatch.undo()
        await send(services, susan)
        return page

    monkeypatch.setattr(notification_rows, "since", read_then_send)
    feed = services.feed.follow(reader, 0, heartbeat=3)
    assert await anext(feed) == []
    assert [each.data for each in await anext(feed)] == [1]
    await feed.aclose()


async def test_stream_ends_with_its_session(services: Services, reader: Reader, tab: Client) -> None:
    await services.sessions.end_session(reader)
    assert isinstance(await tab.refused(), SignedOut)


async def test_stream_ends_with_its_session_if_the_signal_is_lost(
    services: Services, susan: User, reader: Reader, tab: Client
) -> None:
    """The next notification is not consecutive, so the stream reads and finds that its session has ended."""
    with signals_lost():
        await services.sessions.end_session(reader)
    await send(services, susan)
    assert isinstance(await tab.refused(), SignedOut)
    assert tab.state == {}


async def test_ending_one_session_keeps_other_streams_open(services: Services, susan: User, tab: Client) -> None:
    await services.sessions.end_session(await signed_in(services, susan))
    await send(services, susan)
    await tab.until(lambda: tab.state == unread_count(1))


async def test_new_password_ends_streams(services: Services, tab: Client) -> None:
    await services.accounts.set_password("Susan", "another password")
    assert isinstance(await tab.refused(), SignedOut)


async def test_ended_session_cannot_read(services: Services, reader: Reader) -> None:
    await services.sessions.end_session(reader)
    with pytest.raises(SignedOut):
        await services.feed.page(reader, 0)
    with pytest.raises(SignedOut):
        await services.feed.hold(reader, 0, (), 10)


async def test_session_of_another_user_cannot_read(services: Services, reader: Reader, john: User) -> None:
    with pytest.raises(SignedOut):
        await services.feed.page(Reader(john.id, reader.token_hash), 0)


async def test_stream_ends_when_its_session_expires(services: Services, susan: User) -> None:
    moment = sql_time.now()
    await services.storage.write(lambda tx: rows.add_session(tx, susan.id, "short", True, 2_000_000))
    tab = Client(services, Reader(susan.id, "short"))
    with suppress(SignedOut):  # the session has expired already if the machine was paused
        await tab.connect()
    assert isinstance(await tab.refused(), SignedOut)
    assert sql_time.now() >= moment + 2_000_000


@pytest.mark.parametrize("since", [10**18, FURTHEST])
async def test_cursor_ahead_of_the_clock_returns_everything(
    services: Services, susan: User, reader: Reader, since: int
) -> None:
    await send(services, susan)
    assert [each.data for each in await services.feed.page(reader, since)] == [1]


async def test_stream_from_a_future_cursor_receives_new_notifications(
    services: Services, susan: User, reader: Reader
) -> None:
    feed = services.feed.follow(reader, 10**18, heartbeat=3600)
    assert await anext(feed) == []
    await send(services, susan)
    assert [each.data for each in await anext(feed)] == [1]
    services.hub.deliver(Signal(susan.id, FURTHEST))  # the stream must read
    await send(services, susan)
    assert [each.data for each in await anext(feed)] == [2]
    await feed.aclose()


async def test_stream_sends_only_the_requested_names(services: Services, susan: User, reader: Reader) -> None:
    feed = services.feed.follow(reader, 0, {"wanted"}, heartbeat=3600)
    assert await anext(feed) == []
    await send(services, susan)
    await services.notifications.add_notification(susan.id, "other", 1)
    services.hub.deliver(Signal(susan.id, FURTHEST))
    await services.notifications.add_notification(susan.id, "wanted", 2)
    assert [(each.name, each.data) for each in await anext(feed)] == [("wanted", 2)]
    await feed.aclose()


async def test_poll_returns_only_the_requested_names(services: Services, susan: User, reader: Reader) -> None:
    for name in ("a", "b", "c"):
        await services.notifications.add_notification(susan.id, name, name)
    assert [each.name for each in await services.feed.page(reader, 0, {"a", "c"})] == ["a", "c"]


async def test_slow_stream_receives_only_the_newest_value(services: Services, susan: User, reader: Reader) -> None:
    feed = services.feed.follow(reader, 0, heartbeat=3600)
    await anext(feed)
    for _ in range(5):
        await send(services, susan)
    assert [each.data for each in await anext(feed)] == [5]
    await feed.aclose()


async def test_heartbeat_is_an_empty_page(services: Services, reader: Reader) -> None:
    tab = Client(services, reader)
    await tab.connect(heartbeat=0.01)
    await tab.until(lambda: len(tab.pages) >= 4)
    assert tab.pages == [[]] * len(tab.pages)
    await tab.disconnect()


async def test_heartbeats_continue_while_notifications_are_sent(
    services: Services, susan: User, reader: Reader
) -> None:
    tab = Client(services, reader)
    await tab.connect(heartbeat=0.02)
    while [] not in tab.pages[1:]:
        await send(services, susan)
    await tab.disconnect()


async def test_long_poll_returns_when_a_notification_arrives(services: Services, susan: User, reader: Reader) -> None:
    poll = asyncio.create_task(services.feed.hold(reader, 0, (), 30))
    while not services.hub.positions():
        await asyncio.sleep(0)
    await send(services, susan)
    async with asyncio.timeout(DEADLINE):
        assert [each.data for each in await poll] == [1]
    assert services.hub.positions() == {}


async def test_long_poll_ends_with_its_session(services: Services, reader: Reader) -> None:
    poll = asyncio.create_task(services.feed.hold(reader, 0, (), 30))
    while set(services.hub.positions().values()) in (set(), {-1}):
        await asyncio.sleep(0)
    await services.sessions.end_session(reader)
    with pytest.raises(SignedOut):
        async with asyncio.timeout(DEADLINE):
            await poll


async def test_missed_heartbeats_are_not_repeated(
    services: Services, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst of them after a pause of the process would time out a client that answers."""
    feed = services.feed.follow(reader, 0, heartbeat=0.3)
    assert [await anext(feed), await anext(feed)] == [[], []]
    loop = asyncio.get_running_loop()
    real, paused = loop.time, 60.0
    monkeypatch.setattr(loop, "time", lambda: real() + paused)
    begun = real()
    assert [await anext(feed), await anext(feed)] == [[], []]
    assert real() - begun > 0.2
    await feed.aclose()


async def test_long_poll_returns_at_once_if_there_is_something_new(
    services: Services, susan: User, reader: Reader
) -> None:
    await send(services, susan)
    async with asyncio.timeout(DEADLINE):
        assert len(await services.feed.hold(reader, 0, (), 30)) == 1


async def test_long_poll_returns_nothing_after_its_timeout(services: Services, reader: Reader) -> None:
    assert await services.feed.hold(reader, 0, (), 0.01) == []


async def test_drain_ends_streams_and_answers_long_polls(services: Services, reader: Reader, tab: Client) -> None:
    poll = asyncio.create_task(services.feed.hold(reader, 0, (), 30))
    while len(services.hub.subscribers()) < 2:
        await asyncio.sleep(0)
    services.hub.stop_accepting(lambda: 7.0)
    for subscriber in services.hub.subscribers():
        subscriber.close(3.5)
    refused = await tab.refused()
    assert isinstance(refused, Draining)
    assert refused.back_in == 3.5
    assert await poll == []


async def test_gap_costs_one_query_if_nothing_is_new(services: Services, susan: User, john: User) -> None:
    readers = [await signed_in(services, user) for user in (susan, john)]
    tabs = [Client(services, reader) for reader in readers for _ in range(20)]
    for each in tabs:
        await each.connect()
    statements: list[str] = []
    event.listen(services.storage.engines[0], "before_cursor_execute", lambda _, __, sql, *___: statements.append(sql))
    await services.feed.receive(OneGap())
    assert len(statements) == 1
    with signals_lost():
        await services.messages.send_message(susan.id, john.id, "hello")
    await services.feed.receive(OneGap())
    for each in tabs[20:]:
        await each.until(lambda each=each: each.state == unread_count(1))
    assert len(statements) == 2 + 1
    assert all(each.pages == [[]] for each in tabs[:20])
    for each in tabs:
        await each.disconnect()


async def test_gaps_that_arrive_together_share_a_query(services: Services, susan: User, john: User) -> None:
    for user in (susan, john):
        await Client(services, await signed_in(services, user)).connect()
    queries: list[list[int] | None] = []

    class Counting(Feed):
        async def reconcile(self, user_ids: Iterable[int] | None = None, *, by_sweep: bool = False) -> dict[int, int]:
            queries.append(None if user_ids is None else sorted(user_ids))
            return await super().reconcile(user_ids, by_sweep=by_sweep)

    class Gaps(MemoryBus):
        async def events(self) -> AsyncGenerator[BusEvent]:
            for user_id in (susan.id, john.id, susan.id):
                yield Gap(user_id)

    feed = Counting(services.storage, services.hub, services.bus)
    await feed.receive(Gaps())
    assert queries == [[susan.id, john.id]]


async def test_reads_of_the_feed_leave_a_connection_for_a_page(
    services: Services, susan: User, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: set[int] = set()
    maximum = 0
    connect = AsyncEngine.connect

    class Counted:
        def __init__(self, engine: AsyncEngine) -> None:
            self._connection = connect(engine)

        async def __aenter__(self) -> Any:
            nonlocal maximum
            running.add(id(self))
            maximum = max(maximum, len(running))
            await asyncio.sleep(0)
            return await self._connection.__aenter__()

        async def __aexit__(self, *error: Any) -> None:
            running.discard(id(self))
            await self._connection.__aexit__(*error)

    monkeypatch.setattr(AsyncEngine, "connect", lambda engine: Counted(engine))
    await asyncio.gather(*(services.feed.page(reader, since) for since in range(6 * reads.BATCH)))
    assert maximum == services.storage._database.READERS - 1


class OneGap(MemoryBus):
    async def events(self) -> AsyncGenerator[BusEvent]:
        yield Gap()

"""The feed: nothing missed, nothing twice, nothing after the session's end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import select

from microblog_rt import accounts
from microblog_rt.accounts import Reader
from microblog_rt.app import Parts
from microblog_rt.bus import Gap, MemoryBus, Word
from microblog_rt.errors import Draining, SignedOut
from microblog_rt.hub import Hub
from microblog_rt.models import Session, User
from microblog_rt.protocol import FURTHEST, UNREAD_MESSAGE_COUNT, Wake
from microblog_rt.storage import accounts as rows
from microblog_rt.storage import moments
from microblog_rt.storage import notifications as told
from tests.clients import DEADLINE, Client, signed_in


@pytest.fixture
async def reader(parts: Parts, susan: User) -> Reader:
    return await signed_in(parts, susan)


@pytest.fixture
async def tab(parts: Parts, reader: Reader) -> AsyncIterator[Client]:
    tab = Client(parts, reader)
    await tab.connect()
    yield tab
    await tab.disconnect()


async def send(parts: Parts, to: User, text: str = "hello") -> None:
    await parts.messages.send_message(to.id, to.id, text)


def count(number: int) -> dict[str, int]:
    return {UNREAD_MESSAGE_COUNT: number}


async def test_a_message_reaches_a_tab_without_a_read(
    parts: Parts, susan: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(parts, susan)
    await tab.until(lambda: tab.state == count(1))

    async def no_read(*_: object) -> None:
        raise AssertionError("a notice that follows on needs no read")

    monkeypatch.setattr(told, "since", no_read)
    await send(parts, susan)
    await tab.until(lambda: tab.state == count(2))


async def test_a_swallowed_wake_up_is_found_by_the_sweep(
    parts: Parts, susan: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as deaf:
        deaf.setattr(Hub, "wake", lambda _, __: None)
        await send(parts, susan)
    assert tab.state == {}
    await parts.feed.sweep_once()
    await tab.until(lambda: tab.state == count(1))


async def test_the_sweep_wakes_whoever_is_behind(
    parts: Parts, susan: User, john: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[int] = []
    monkeypatch.setattr(Hub, "wake", lambda _, wake: woken.append(wake.user_id))
    await send(parts, susan)
    await send(parts, john)
    assert woken == [susan.id, john.id]
    await parts.feed.sweep_once()
    assert woken[2:] == [susan.id]


async def test_the_sweep_wakes_nobody_who_knows_everything(
    parts: Parts, susan: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(parts, susan)
    await tab.until(lambda: tab.state == count(1))
    woken: list[Wake] = []
    monkeypatch.setattr(Hub, "wake", lambda _, wake: woken.append(wake))
    await parts.feed.sweep_once()
    assert woken == []


async def test_a_sweep_that_fails_is_not_the_last(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    third = asyncio.Event()
    times = 0

    async def failing() -> None:
        nonlocal times
        times += 1
        if times == 3:
            third.set()
        raise RuntimeError("the database is away")

    monkeypatch.setattr(parts.feed, "sweep_once", failing)
    sweeping = asyncio.create_task(parts.feed.sweep(0.001))
    async with asyncio.timeout(DEADLINE):
        await third.wait()
    sweeping.cancel()
    assert "the sweep failed" in caplog.text


async def test_a_gap_on_the_bus_makes_everybody_read(
    parts: Parts, susan: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as deaf:
        deaf.setattr(Hub, "wake", lambda _, __: None)
        await send(parts, susan)

    class Broken(MemoryBus):
        async def listen(self) -> AsyncGenerator[Word]:
            yield Gap()

    await parts.feed.relay(Broken())
    await tab.until(lambda: tab.state == count(1))


async def test_word_from_another_process_reaches_a_tab(
    parts: Parts, susan: User, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    swallowed: list[Wake] = []
    with monkeypatch.context() as deaf:
        deaf.setattr(Hub, "wake", lambda _, wake: swallowed.append(wake))
        await send(parts, susan)

    class Other(MemoryBus):
        async def listen(self) -> AsyncGenerator[Word]:
            for wake in swallowed:
                yield wake

    await parts.feed.relay(Other())
    await tab.until(lambda: tab.state == count(1))


async def test_what_is_committed_during_the_first_read_is_told(
    parts: Parts, susan: User, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listen first, read second. Heartbeats are due at once, so that nobody waits for a word that was lost."""
    real = told.since

    async def overtaken(*asked: Any) -> told.Page | None:
        page = await real(*asked)
        monkeypatch.undo()
        await send(parts, susan)
        return page

    monkeypatch.setattr(told, "since", overtaken)
    feed = parts.feed.follow(reader, 0, heartbeat=0)
    assert await anext(feed) == []
    assert [each.data for page in (await anext(feed), await anext(feed)) for each in page] == [1]
    await feed.aclose()


async def test_a_stream_ends_with_its_session(parts: Parts, reader: Reader, tab: Client) -> None:
    await parts.accounts.end_session(reader)
    assert isinstance(await tab.refused(), SignedOut)


async def test_a_stream_ends_with_its_session_even_where_the_word_of_it_is_lost(
    parts: Parts, susan: User, reader: Reader, tab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next message does not follow on from what the tab knows, so that it looks, and finds its session gone."""
    with monkeypatch.context() as deaf:
        deaf.setattr(Hub, "wake", lambda _, __: None)
        await parts.accounts.end_session(reader)
    await send(parts, susan)
    assert isinstance(await tab.refused(), SignedOut)
    assert tab.state == {}


async def test_a_session_of_the_same_user_goes_on(parts: Parts, susan: User, tab: Client) -> None:
    await parts.accounts.end_session(await signed_in(parts, susan))
    await send(parts, susan)
    await tab.until(lambda: tab.state == count(1))


async def test_a_new_password_ends_every_stream(parts: Parts, tab: Client) -> None:
    await parts.accounts.set_password("Susan", "another password")
    assert isinstance(await tab.refused(), SignedOut)


async def test_an_ended_session_reads_nothing(parts: Parts, reader: Reader) -> None:
    await parts.accounts.end_session(reader)
    with pytest.raises(SignedOut):
        await parts.feed.page(reader, 0)
    with pytest.raises(SignedOut):
        await parts.feed.hold(reader, 0, (), 10)


async def test_a_session_of_somebody_else_reads_nothing(parts: Parts, reader: Reader, john: User) -> None:
    with pytest.raises(SignedOut):
        await parts.feed.page(Reader(john.id, reader.token_hash), 0)


async def test_a_stream_closes_itself_when_its_session_runs_out(parts: Parts, susan: User) -> None:
    moment = moments.now()
    async with parts.storage.transaction() as tx:
        await rows.add_session(tx, susan.id, "short", True, 2_000_000)
    tab = Client(parts, Reader(susan.id, "short"))
    with suppress(SignedOut):  # already, where the machine stood still meanwhile
        await tab.connect()
    assert isinstance(await tab.refused(), SignedOut)
    assert moments.now() >= moment + 2_000_000


@pytest.mark.sqlite
async def test_use_makes_a_session_last_and_is_noted_once_a_minute(
    parts: Parts, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def session() -> Session:
        async with parts.storage.reading() as reading:
            return (await reading.execute(select(Session))).scalar_one()

    begun = await session()
    await parts.feed.page(reader, 0)
    assert (await session()).last_used == begun.last_used
    later = moments.now() + 61_000_000
    monkeypatch.setattr(moments, "now", lambda: later)
    await parts.feed.page(reader, 0)
    noted = await session()
    assert noted.last_used > begun.last_used
    assert noted.expires > begun.expires


@pytest.mark.sqlite
async def test_a_session_outlives_its_lifetime_by_no_use(
    parts: Parts, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = moments.now()
    day = 86_400_000_000
    for days in (13, 26, 39, 52, 65, 78, 89):
        monkeypatch.setattr(moments, "now", lambda days=days: begun + days * day)
        await parts.feed.page(reader, 0)
    monkeypatch.setattr(moments, "now", lambda: begun + accounts.SESSION_LIFETIME + day)
    with pytest.raises(SignedOut):
        await parts.feed.page(reader, 0)


@pytest.mark.sqlite
async def test_an_open_stream_is_use(parts: Parts, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = asyncio.Event()
    real = rows.note_use

    async def note(*values: object) -> None:
        await real(*values)  # type: ignore[arg-type]
        noted.set()

    monkeypatch.setattr(rows, "note_use", note)
    tab = Client(parts, reader)
    await tab.connect(heartbeat=0.01)
    later = moments.now() + 3_601_000_000
    monkeypatch.setattr(moments, "now", lambda: later)
    async with asyncio.timeout(DEADLINE):
        await noted.wait()
    await tab.disconnect()


@pytest.mark.parametrize("since", [10**18, FURTHEST])
async def test_a_cursor_ahead_of_the_clock_gets_everything(
    parts: Parts, susan: User, reader: Reader, since: int
) -> None:
    await send(parts, susan)
    assert [each.data for each in await parts.feed.page(reader, since)] == [1]


async def test_a_stream_from_a_cursor_ahead_of_the_clock_is_told_what_comes(
    parts: Parts, susan: User, reader: Reader
) -> None:
    feed = parts.feed.follow(reader, 10**18, heartbeat=3600)
    assert await anext(feed) == []
    await send(parts, susan)
    assert [each.data for each in await anext(feed)] == [1]
    parts.hub.wake_all()
    await send(parts, susan)
    assert [each.data for each in await anext(feed)] == [2]
    await feed.aclose()


async def test_names_that_were_not_asked_for_send_nothing(parts: Parts, susan: User, reader: Reader) -> None:
    feed = parts.feed.follow(reader, 0, {"wanted"}, heartbeat=3600)
    assert await anext(feed) == []
    await send(parts, susan)
    await parts.notifications.add_notification(susan.id, "other", 1)
    parts.hub.wake_all()
    await parts.notifications.add_notification(susan.id, "wanted", 2)
    assert [(each.name, each.data) for each in await anext(feed)] == [("wanted", 2)]
    await feed.aclose()


async def test_a_poll_for_names_answers_those_alone(parts: Parts, susan: User, reader: Reader) -> None:
    for name in ("a", "b", "c"):
        await parts.notifications.add_notification(susan.id, name, name)
    assert [each.name for each in await parts.feed.page(reader, 0, {"a", "c"})] == ["a", "c"]


async def test_a_slow_reader_gets_the_newest_state_at_once(parts: Parts, susan: User, reader: Reader) -> None:
    feed = parts.feed.follow(reader, 0, heartbeat=3600)
    await anext(feed)
    for _ in range(5):
        await send(parts, susan)
    assert [each.data for each in await anext(feed)] == [5]
    await feed.aclose()


async def test_a_heartbeat_is_an_empty_page(parts: Parts, reader: Reader) -> None:
    tab = Client(parts, reader)
    await tab.connect(heartbeat=0.01)
    await tab.until(lambda: len(tab.pages) >= 4)
    assert tab.pages == [[]] * len(tab.pages)
    await tab.disconnect()


async def test_a_heartbeat_comes_whatever_else_is_sent(parts: Parts, susan: User, reader: Reader) -> None:
    tab = Client(parts, reader)
    await tab.connect(heartbeat=0.02)
    while [] not in tab.pages[1:]:
        await send(parts, susan)
    await tab.disconnect()


async def test_a_held_question_is_answered_by_what_comes(parts: Parts, susan: User, reader: Reader) -> None:
    held = asyncio.create_task(parts.feed.hold(reader, 0, (), 30))
    while not parts.hub.positions():
        await asyncio.sleep(0)
    await send(parts, susan)
    async with asyncio.timeout(DEADLINE):
        assert [each.data for each in await held] == [1]
    assert parts.hub.positions() == {}


async def test_a_held_question_ends_with_its_session(parts: Parts, reader: Reader) -> None:
    held = asyncio.create_task(parts.feed.hold(reader, 0, (), 30))
    while set(parts.hub.positions().values()) in (set(), {-1}):
        await asyncio.sleep(0)
    await parts.accounts.end_session(reader)
    with pytest.raises(SignedOut):
        async with asyncio.timeout(DEADLINE):
            await held


async def test_heartbeats_that_were_missed_are_not_made_up_for(
    parts: Parts, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pause of the whole process a burst of them would find a good client unanswering."""
    feed = parts.feed.follow(reader, 0, heartbeat=0.3)
    assert [await anext(feed), await anext(feed)] == [[], []]
    loop = asyncio.get_running_loop()
    real, paused = loop.time, 60.0
    monkeypatch.setattr(loop, "time", lambda: real() + paused)
    begun = real()
    assert [await anext(feed), await anext(feed)] == [[], []]
    assert real() - begun > 0.2
    await feed.aclose()


async def test_a_held_question_is_answered_at_once_where_there_is_something(
    parts: Parts, susan: User, reader: Reader
) -> None:
    await send(parts, susan)
    async with asyncio.timeout(DEADLINE):
        assert len(await parts.feed.hold(reader, 0, (), 30)) == 1


async def test_a_held_question_ends_with_nothing(parts: Parts, reader: Reader) -> None:
    assert await parts.feed.hold(reader, 0, (), 0.01) == []


async def test_a_closing_process_ends_streams_and_answers_held_questions(
    parts: Parts, reader: Reader, tab: Client
) -> None:
    held = asyncio.create_task(parts.feed.hold(reader, 0, (), 30))
    while sum(len(some) for some in parts.hub._listeners.values()) < 2:
        await asyncio.sleep(0)
    parts.hub.refuse_newcomers(lambda: 7.0)
    for listener in parts.hub.everybody():
        listener.close(3.5)
    refused = await tab.refused()
    assert isinstance(refused, Draining)
    assert refused.back_in == 3.5
    assert await held == []

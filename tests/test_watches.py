"""Polls answered from memory: which ones are, that the answers are right, and what makes the next poll read."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from microblog_rt.accounts import Reader, reader_of
from microblog_rt.bus import BusEvent, Gap, MemoryBus
from microblog_rt.bus.base import Health
from microblog_rt.errors import SignedOut, Unavailable
from microblog_rt.feed import Feed, Stream, reads, watches
from microblog_rt.hub import NAMES_KEPT
from microblog_rt.models import User
from microblog_rt.protocol import FURTHEST, Notification, Signal
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import accounts as rows
from microblog_rt.storage import notifications as notification_rows
from microblog_rt.storage import sql_time
from tests.asgi_server import warnings_logged
from tests.clients import DEADLINE, send, signals_lost, signed_in
from tests.conftest import KEY, PATIENT


class StubBus(MemoryBus):
    """A bus whose state and events the test chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.state = "connected"
        self.to_yield: list[BusEvent] = []

    def health(self) -> Health:
        return Health(self.backend, self.state, None)

    async def events(self) -> AsyncGenerator[BusEvent]:
        for each in self.to_yield:
            yield each


class Polls:
    """Polls a feed; ``statements`` has the SQL of them all."""

    def __init__(self, services: Services, bus: StubBus) -> None:
        self.bus = bus
        self.feed = Feed(services.storage, services.hub, bus, PATIENT)
        self.statements: list[str] = []
        for engine in services.storage.engines:
            event.listen(engine, "before_cursor_execute", lambda _, __, sql, *___: self.statements.append(sql))

    async def poll(self, reader: Reader, since: int = 0, names: Iterable[str] = ()) -> list[Notification]:
        async with asyncio.timeout(DEADLINE):
            return await self.feed.page(reader, since, set(names))

    async def data(self, reader: Reader, since: int = 0, names: Iterable[str] = ()) -> dict[str, Any]:
        """What a poll returns, by name."""
        return {each.name: each.data for each in await self.poll(reader, since, names)}

    @contextmanager
    def reading(self, queries: int) -> Iterator[None]:
        """Fail unless the block runs so many queries."""
        before = len(self.statements)
        yield
        assert len(self.statements) - before == queries, self.statements[before:]


@pytest.fixture
async def polls(services: Services) -> AsyncIterator[Polls]:
    polls = Polls(services, StubBus())
    yield polls
    await polls.feed.close()


@pytest.fixture
async def reader(services: Services, susan: User) -> Reader:
    return await signed_in(services, susan)


@pytest.fixture
def notify(services: Services, susan: User) -> Callable[..., Any]:
    """Give susan a notification."""
    return lambda name, data=1: services.notifications.add_notification(susan.id, name, data)


Notify = Callable[..., Any]


async def watched(polls: Polls, reader: Reader) -> int:
    """Poll until the next poll is answered from memory; the cursor after that."""
    found = await polls.poll(reader)
    with polls.reading(0):
        assert [each.timestamp for each in await polls.poll(reader)] == [each.timestamp for each in found]
    return found[-1].timestamp if found else 0


async def test_poll_with_nothing_new_runs_no_query(polls: Polls, reader: Reader, notify: Notify) -> None:
    await notify("a")
    with polls.reading(1):
        (found,) = await polls.poll(reader)
    with polls.reading(0):
        assert await polls.poll(reader, found.timestamp) == []
        assert await polls.poll(reader, found.timestamp) == []


async def test_poll_with_news_that_followed_on_runs_no_query(polls: Polls, reader: Reader, notify: Notify) -> None:
    await notify("a", "old")
    since = await watched(polls, reader)
    await notify("b", 1)
    await notify("a", "new")
    await notify("b", 2)
    with polls.reading(0):
        assert [(each.name, each.data) for each in await polls.poll(reader, since)] == [("a", "new"), ("b", 2)]
        (newest,) = await polls.poll(reader, since, {"b"})
        assert await polls.poll(reader, newest.timestamp) == []


async def test_poll_from_zero_is_answered_from_memory(polls: Polls, reader: Reader, notify: Notify) -> None:
    await notify("a")
    await watched(polls, reader)
    await notify("b")
    with polls.reading(0):
        assert await polls.data(reader) == {"a": 1, "b": 1}


@pytest.mark.sqlite
async def test_names_filter_what_is_in_memory(polls: Polls, reader: Reader, notify: Notify) -> None:
    for name in ("a", "b", "c"):
        await notify(name)
    await watched(polls, reader)
    with polls.reading(0):
        assert await polls.data(reader, 0, {"a", "c"}) == {"a": 1, "c": 1}
        assert await polls.data(reader, 0, {"other"}) == {}


@pytest.mark.sqlite
async def test_poll_for_names_does_not_hide_other_notifications(polls: Polls, reader: Reader, notify: Notify) -> None:
    await notify("a")
    await notify("b")
    assert await polls.data(reader, 0, {"a"}) == {"a": 1}
    assert await polls.data(reader) == {"a": 1, "b": 1}


@pytest.mark.sqlite
async def test_cursor_older_than_what_is_known_reads(polls: Polls, reader: Reader, notify: Notify) -> None:
    await notify("a")
    await notify("b")
    first, second = await notification_rows_of(polls, reader)
    assert await polls.poll(reader, second) == []
    with polls.reading(1):
        assert await polls.data(reader, first) == {"b": 1}
    with polls.reading(0):
        assert await polls.data(reader, first) == {"b": 1}
    with polls.reading(1):
        assert await polls.data(reader) == {"a": 1, "b": 1}
    with polls.reading(0):
        assert await polls.data(reader) == {"a": 1, "b": 1}


async def notification_rows_of(polls: Polls, reader: Reader) -> list[int]:
    """The timestamps of the reader's notifications, read without a watch."""
    page = await notification_rows.since(polls.feed._storage, reader.token_hash, reader.user_id, 0, ())
    assert page is not None
    return [each.timestamp for each in page.notifications]


@pytest.mark.parametrize("ahead", [1, 10**15, FURTHEST])
async def test_cursor_ahead_of_the_clock_returns_everything(
    polls: Polls, reader: Reader, notify: Notify, ahead: int
) -> None:
    await notify("a")
    await notify("b")
    since = min(await watched(polls, reader) + ahead, FURTHEST)
    for _ in range(2):
        assert await polls.data(reader, since) == {"a": 1, "b": 1}
    with polls.reading(0):
        assert await polls.data(reader) == {"a": 1, "b": 1}


@pytest.mark.sqlite
async def test_first_poll_from_ahead_of_the_clock_knows_everything(
    polls: Polls, reader: Reader, notify: Notify
) -> None:
    await notify("a")
    assert await polls.data(reader, FURTHEST) == {"a": 1}
    with polls.reading(0):
        assert await polls.data(reader) == {"a": 1}


async def test_signal_without_a_notification_makes_the_next_poll_read(
    services: Services, polls: Polls, reader: Reader, susan: User
) -> None:
    since = await watched(polls, reader)
    await services.sessions.end_session(await signed_in(services, susan))
    with polls.reading(1):
        assert await polls.poll(reader, since) == []
    with polls.reading(0):
        assert await polls.poll(reader, since) == []


@pytest.mark.sqlite
async def test_signal_that_does_not_follow_on_makes_the_next_poll_read(
    polls: Polls, reader: Reader, notify: Notify
) -> None:
    since = await watched(polls, reader)
    with signals_lost():
        await notify("a")
    await notify("b")
    with polls.reading(1):
        assert await polls.data(reader, since) == {"a": 1, "b": 1}


@pytest.mark.sqlite
async def test_signals_that_arrive_twice_or_late_change_nothing(
    services: Services, polls: Polls, reader: Reader, susan: User, notify: Notify, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = await watched(polls, reader)
    signals: list[Signal] = []
    with monkeypatch.context() as patch:
        patch.setattr(type(services.hub), "deliver", lambda _, signal, **__: signals.append(signal))
        await notify("a")
        await notify("b")
    first, second = signals
    for each in (first, second, first, second):
        services.hub.deliver(each)
    with polls.reading(0):
        assert await polls.data(reader, since) == {"a": 1, "b": 1}


@pytest.mark.parametrize("of_user", [True, False])
async def test_gap_makes_the_next_poll_read(
    polls: Polls, reader: Reader, susan: User, notify: Notify, of_user: bool
) -> None:
    since = await watched(polls, reader)
    with signals_lost():
        await notify("a")
    polls.bus.to_yield = [Gap(susan.id if of_user else None)]
    # Reconciling would find the change too, but later.
    with signals_lost():
        await polls.feed.receive(polls.bus)
    assert await polls.data(reader, since) == {"a": 1}


@pytest.mark.sqlite
async def test_gap_of_another_user_keeps_a_watch(polls: Polls, reader: Reader, john: User) -> None:
    since = await watched(polls, reader)
    polls.bus.to_yield = [Gap(john.id)]
    await polls.feed.receive(polls.bus)
    with polls.reading(0):
        assert await polls.poll(reader, since) == []


@pytest.mark.sqlite
async def test_failed_bus_makes_the_next_poll_read(
    polls: Polls, reader: Reader, notify: Notify, caplog: pytest.LogCaptureFixture
) -> None:
    polls.feed._timeouts = replace(PATIENT, bus_restart=0)
    since = await watched(polls, reader)
    with signals_lost():
        await notify("a")

    class Failing(StubBus):
        runs = 0

        async def events(self) -> AsyncGenerator[BusEvent]:
            self.runs += 1
            if self.runs == 1:
                raise RuntimeError("a bug")
            for each in self.to_yield:
                yield each

    with signals_lost():
        await polls.feed.receive(Failing())
    assert warnings_logged(caplog.records) == ["bus failed, restarting it"]
    assert await polls.data(reader, since) == {"a": 1}


@pytest.mark.parametrize("state", ["no_heartbeat", "disconnected"])
async def test_poll_reads_while_signals_may_not_arrive(
    polls: Polls, reader: Reader, notify: Notify, state: str
) -> None:
    since = await watched(polls, reader)
    polls.bus.state = state
    with signals_lost():
        await notify("a")
    for _ in range(2):
        with polls.reading(1):
            assert await polls.data(reader, since) == {"a": 1}


async def test_single_process_answers_from_memory_on_sqlite_only(
    polls: Polls, reader: Reader, settings: Settings
) -> None:
    """Other hosts may use the same PostgreSQL, so without a bus every poll reads."""
    since = await watched(polls, reader)
    polls.bus.state = "single_process"
    await polls.feed._watches._catch_up()
    with polls.reading(0 if settings.sqlite_file else 1):
        assert await polls.poll(reader, since) == []


@pytest.mark.sqlite
async def test_commit_of_another_process_makes_the_next_poll_read(
    polls: Polls, reader: Reader, settings: Settings, susan: User
) -> None:
    """As of a command beside a server on ``memory://``; the poll after that is answered from memory again."""
    since = await watched(polls, reader)
    polls.bus.state = "single_process"
    await polls.feed._watches._catch_up()
    assert polls.feed.known(reader, since) == []
    with closing(sqlite3.connect(str(settings.sqlite_file))) as other, other:
        other.execute("UPDATE mailbox SET clock = clock + 1, clock_before = clock WHERE user_id = ?", (susan.id,))
    assert polls.feed.known(reader, since) is None
    await polls.poll(reader, since)
    await polls.feed._watches._catch_up()
    assert await polls.poll(reader, since) == []
    assert polls.feed.known(reader, since) == []


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("error", "logged"),
    [(Unavailable(), []), (RuntimeError("a bug"), ["looking for changes by other processes failed"])],
)
async def test_poll_reads_while_commits_cannot_be_noticed(
    polls: Polls,
    reader: Reader,
    services: Services,
    error: Exception,
    logged: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails(_: object) -> None:
        raise error

    since = await watched(polls, reader)
    polls.bus.state = "single_process"
    monkeypatch.setattr(services.storage, "catch_up", fails)
    caplog.clear()
    with polls.reading(1):
        assert await polls.poll(reader, since) == []
    await polls.feed._watches._catch_up()
    assert set(caplog.messages) == set(logged)


async def test_stream_starts_from_a_watch_without_a_read(polls: Polls, reader: Reader, notify: Notify) -> None:
    await notify("a")
    await watched(polls, reader)
    with polls.reading(0):
        assert [each.data for each in await polls.feed.hold(reader, 0, (), DEADLINE)] == [1]
    stream = Stream(polls.feed.reads, reader, 0)
    assert polls.feed.watch(stream) is polls.feed._watches._watches[reader.user_id]


async def test_another_session_reads_once(
    services: Services, polls: Polls, reader: Reader, susan: User, notify: Notify
) -> None:
    await notify("a")
    since = await watched(polls, reader)
    other = await signed_in(services, susan)
    with polls.reading(1):
        await polls.poll(other, since)
    with polls.reading(0):
        await polls.poll(other, since)
        assert await polls.data(reader) == {"a": 1}, "older than the cursor of the other session"


@pytest.mark.sqlite
async def test_session_of_another_user_is_refused(polls: Polls, reader: Reader, john: User, services: Services) -> None:
    await watched(polls, reader)
    johns = await signed_in(services, john)
    await watched(polls, johns)
    for forged in (Reader(john.id, reader.token_hash), Reader(reader.user_id, johns.token_hash)):
        for _ in range(2):
            with pytest.raises(SignedOut):
                await polls.poll(forged)


async def test_ended_session_is_signed_out_at_once(services: Services, polls: Polls, reader: Reader) -> None:
    since = await watched(polls, reader)
    await services.sessions.end_session(reader)
    for _ in range(2):
        with pytest.raises(SignedOut):
            await polls.poll(reader, since)


async def test_other_session_survives_and_is_read_again(
    services: Services, polls: Polls, reader: Reader, susan: User
) -> None:
    other = await signed_in(services, susan)
    since = await watched(polls, reader)
    await polls.poll(other, since)
    await services.sessions.end_session(reader)
    with polls.reading(1):
        assert await polls.poll(other, since) == []
    with pytest.raises(SignedOut):
        await polls.poll(reader, since)
    with polls.reading(0):
        assert await polls.poll(other, since) == []


@pytest.mark.sqlite
async def test_session_found_ended_by_a_read_stays_ended(services: Services, polls: Polls, reader: Reader) -> None:
    """Its signal may arrive later, or never; a poll after a refused one must not succeed."""
    since = await watched(polls, reader)
    with signals_lost():
        await services.sessions.end_session(reader)
    with pytest.raises(SignedOut):
        await polls.poll(reader, FURTHEST)
    with pytest.raises(SignedOut):
        await polls.poll(reader, since)


async def test_expired_session_is_signed_out(services: Services, polls: Polls, susan: User) -> None:
    short = Reader(susan.id, "short")
    await add_session(services, short, 1_000_000)
    begun = sql_time.now()
    with pytest.raises(SignedOut):
        async with asyncio.timeout(DEADLINE):
            while True:
                await polls.poll(short)
                await asyncio.sleep(0)
    assert 0.9e6 < sql_time.now() - begun < DEADLINE * 1e6
    with pytest.raises(SignedOut):
        await polls.poll(short)


async def add_session(services: Services, reader: Reader, lasts: int) -> None:
    """A session with a token that the test knows; ``lasts`` microseconds."""
    await services.storage.write(lambda tx: rows.add_session(tx, reader.user_id, reader.token_hash, True, lasts))


@pytest.mark.sqlite
async def test_session_beyond_those_kept_is_read_each_time(
    services: Services, polls: Polls, susan: User, reader: Reader
) -> None:
    since = await watched(polls, reader)
    for number in range(watches.SESSIONS_KEPT):
        await add_session(services, Reader(susan.id, f"s{number}"), 10**12)
        await polls.poll(Reader(susan.id, f"s{number}"), since)
    for _ in range(2):
        with polls.reading(1):
            assert await polls.poll(Reader(susan.id, f"s{watches.SESSIONS_KEPT - 1}"), since) == []
    with polls.reading(0):
        await polls.poll(reader, since)


@pytest.mark.sqlite
async def test_known_session_is_known_for_longer_after_a_read(
    services: Services, polls: Polls, susan: User, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that is used lasts longer; a read sees that, also if the most sessions are kept."""
    monkeypatch.setattr(watches, "SESSIONS_KEPT", 1)
    short = Reader(susan.id, "short")
    await add_session(services, short, 3_600_000_000)
    since = await watched(polls, short)
    later = 7200
    await services.storage.write(lambda tx: rows.end_session(tx, "short"))
    await add_session(services, short, 10 * later * 1_000_000)
    loop = asyncio.get_running_loop()
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + later)
    with polls.reading(1):
        assert await polls.poll(short, since) == []
    with polls.reading(0):
        assert await polls.poll(short, since) == []


@pytest.mark.sqlite
async def test_more_names_than_are_kept_make_polls_read(polls: Polls, reader: Reader, notify: Notify) -> None:
    for number in range(NAMES_KEPT):
        await notify(f"n{number}")
    since = await watched(polls, reader)
    await notify("n0", 2)
    with polls.reading(0):
        assert await polls.data(reader, since) == {"n0": 2}
        assert len(await polls.poll(reader)) == NAMES_KEPT
    await notify("one more")
    with polls.reading(1):
        assert await polls.data(reader, since) == {"n0": 2, "one more": 1}
    for _ in range(2):
        with polls.reading(1):
            assert len(await polls.poll(reader)) == NAMES_KEPT + 1
    with polls.reading(0):  # what is newer than a cursor is few again
        assert await polls.data(reader, since) == {"n0": 2, "one more": 1}


@pytest.mark.parametrize("follows", [True, False])
async def test_signal_during_the_read_makes_the_next_poll_read(
    services: Services,
    polls: Polls,
    reader: Reader,
    susan: User,
    notify: Notify,
    monkeypatch: pytest.MonkeyPatch,
    follows: bool,
) -> None:
    real = notification_rows.since

    async def read_then_change(*arguments: Any) -> notification_rows.Page | None:
        page = await real(*arguments)
        monkeypatch.undo()
        if follows:
            await notify("a")
        else:
            await services.sessions.end_session(reader)
        return page

    monkeypatch.setattr(notification_rows, "since", read_then_change)
    assert await polls.poll(reader) == []
    if follows:
        assert await polls.data(reader) == {"a": 1}
    else:
        with pytest.raises(SignedOut):
            await polls.poll(reader)


@pytest.mark.sqlite
async def test_read_that_began_before_another_does_not_set_memory_back(
    services: Services, polls: Polls, reader: Reader, notify: Notify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow read ends after a newer one has, and the signal in between was lost."""
    real = notification_rows.since
    reading, release = asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any) -> notification_rows.Page | None:
        page = await real(*arguments)
        if not reading.is_set():
            reading.set()
            await release.wait()
        return page

    monkeypatch.setattr(notification_rows, "since", slowly)
    slow = asyncio.create_task(polls.poll(reader))
    await reading.wait()
    with signals_lost():
        await notify("a")
    assert await polls.data(reader, 1) == {"a": 1}
    release.set()
    assert await slow == []
    with polls.reading(0):
        assert await polls.data(reader, 1) == {"a": 1}


async def test_sweep_finds_a_lost_signal_for_a_watch(polls: Polls, reader: Reader, notify: Notify) -> None:
    since = await watched(polls, reader)
    with signals_lost():
        await notify("a")
    with polls.reading(0):
        assert await polls.poll(reader, since) == []
    await polls.feed.sweep_once()
    assert await polls.data(reader, since) == {"a": 1}


@pytest.mark.sqlite
async def test_signal_of_what_was_read_already_changes_nothing(
    polls: Polls, services: Services, reader: Reader, susan: User, notify: Notify
) -> None:
    """The read saw a change whose signal arrives only afterwards."""
    with signals_lost():
        added = await notify("a")
    since = await watched(polls, reader)
    services.hub.deliver(Signal(susan.id, added.timestamp))
    with polls.reading(0):
        assert await polls.poll(reader, since) == []


@pytest.mark.sqlite
@pytest.mark.parametrize("fails", [True, False])
async def test_poll_abandoned_during_its_read_is_not_answered(
    polls: Polls, reader: Reader, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    real = notification_rows.since
    reading, release = asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any) -> notification_rows.Page | None:
        reading.set()
        await release.wait()
        if fails:
            raise Unavailable
        return await real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(notification_rows, "since", slowly)
        abandoned = asyncio.create_task(polls.poll(reader))
        await reading.wait()
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        release.set()
        async with asyncio.timeout(DEADLINE):
            while polls.feed.reads._tasks:
                await asyncio.sleep(0)
    with polls.reading(1 if fails else 0):  # what it read is known all the same
        assert await polls.poll(reader) == []


@pytest.mark.sqlite
async def test_sweep_keeps_a_watch_that_is_current(polls: Polls, reader: Reader, notify: Notify) -> None:
    await notify("a")
    since = await watched(polls, reader)
    await notify("b")
    await polls.feed.sweep_once()
    with polls.reading(0):
        assert await polls.data(reader, since) == {"b": 1}


@pytest.mark.sqlite
async def test_sweep_sends_no_signal_for_a_watch_that_must_read(
    services: Services, polls: Polls, reader: Reader, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watched(polls, reader)
    await services.sessions.end_session(await signed_in(services, susan))
    monkeypatch.setattr(services.hub, "deliver", None)  # calling it would fail
    assert services.hub.positions() == {susan.id: FURTHEST}
    await polls.feed.sweep_once()


@pytest.mark.sqlite
async def test_watch_ends_after_its_last_poll(
    services: Services, polls: Polls, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    real, later = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + later)
    since = await watched(polls, reader)
    later += watches.UNUSED_SECONDS - 1
    await polls.feed.sweep_once()
    with polls.reading(0):
        await polls.poll(reader, since)
    later += watches.UNUSED_SECONDS - 1
    await polls.feed.sweep_once()
    assert list(services.hub.positions()) == [reader.user_id]
    later += 2
    await polls.feed.sweep_once()
    assert services.hub.positions() == {}
    with polls.reading(1):
        await polls.poll(reader, since)


@pytest.mark.sqlite
async def test_watch_does_not_delay_a_drain(services: Services, polls: Polls, reader: Reader) -> None:
    await watched(polls, reader)
    services.hub.stop_accepting(lambda: 1.0)
    assert services.hub.empty.is_set()
    with polls.reading(0):
        await polls.poll(reader)


@pytest.mark.sqlite
async def test_abandoned_poll_is_not_read_for(
    services: Services, polls: Polls, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reads, "AT_ONCE", 0)  # as if other reads were running
        abandoned = asyncio.create_task(polls.poll(reader))
        while not polls.feed.reads._waiting:
            await asyncio.sleep(0)
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
    with polls.reading(1):
        await polls.poll(reader, FURTHEST)


# Any history

NAMES = ["a", "b", "unread_message_count"]
POLL, SET = st.tuples(st.just("poll"), st.sampled_from([0, 0, 1])), st.tuples(st.just("set"), st.integers(0, 2))
OTHERS = [
    st.tuples(st.just("lost set"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["send", "lost send", "sweep", "gap"]), st.just(0)),
    st.tuples(st.sampled_from(["sign in", "end", "lost end"]), st.integers(0, 1)),
]
STEPS = st.one_of(POLL, SET, POLL, SET, POLL, SET, *OTHERS)
# How many changes ago, and microseconds from there; None: ahead of the clock.
RECENT = st.tuples(st.integers(0, 4), st.just(0))
CURSORS = st.one_of(RECENT, RECENT, RECENT, st.tuples(st.integers(0, 40), st.integers(-1, 1)), st.none())


class History:
    """One user's mailbox, polled by two sessions."""

    answered_from_memory = 0

    def __init__(self, services: Services, user: User) -> None:
        self.services = services
        self.user = user
        self.polls = Polls(services, StubBus())
        self.readers: list[Reader] = []
        self.stamps = [0]
        self.signals_outstanding = False

    async def step(self, action: str, number: int, cursor: tuple[int, int] | None, names: list[str]) -> None:
        lost = action.startswith("lost ")
        if lost:
            self.signals_outstanding = True
            with signals_lost():
                await self._change(action.removeprefix("lost "), number)
        elif action == "sweep":
            await self.polls.feed.sweep_once()
            self.signals_outstanding = False
        elif action == "gap":
            self.polls.bus.to_yield = [Gap()]
            await self.polls.feed.receive(self.polls.bus)
            self.signals_outstanding = False
        elif action == "poll":
            for _ in range(2):
                await self._poll(self.readers[number], self._cursor(cursor), frozenset(names))
        else:
            await self._change(action, number)

    def _cursor(self, chosen: tuple[int, int] | None) -> int:
        if chosen is None:
            return FURTHEST
        ago, off = chosen
        return max(self.stamps[max(-1 - ago, -len(self.stamps))] + off, 0)

    async def _change(self, action: str, number: int) -> None:
        if action == "set":
            added = await self.services.notifications.add_notification(self.user.id, NAMES[number], len(self.stamps))
            self.stamps.append(added.timestamp)
        elif action == "send":
            await send(self.services, self.user)
        elif action == "end":
            await self.services.sessions.end_session(self.readers[number])
        else:
            self.readers[number] = await signed_in(self.services, self.user)

    async def _poll(self, reader: Reader, cursor: int, names: frozenset[str]) -> None:
        from_memory = self.polls.feed.known(reader, cursor, names)
        expected = await self._expected(reader, cursor, names)
        if not self.signals_outstanding:
            if from_memory is not None:
                History.answered_from_memory += 1
                assert listed(from_memory) == expected
            try:
                assert listed(await self.polls.poll(reader, cursor, names)) == expected
            except SignedOut:
                assert expected is None
        else:
            try:
                await self.polls.poll(reader, cursor, names)
            except SignedOut:
                assert expected is None

    async def _expected(self, reader: Reader, cursor: int, names: frozenset[str]) -> list[tuple[str, Any, int]] | None:
        storage = self.services.storage
        page = await notification_rows.since(storage, reader.token_hash, reader.user_id, cursor, names)
        return None if page is None else listed(page.notifications)


def listed(found: list[Notification]) -> list[tuple[str, Any, int]]:
    return [(each.name, each.data, each.timestamp) for each in found]


@contextmanager
def assembled(url: str) -> Iterator[tuple[asyncio.Runner, Services]]:
    """Services on the database at ``url``, in a loop that many examples share."""
    with asyncio.Runner(debug=True) as runner:

        async def create() -> Services:
            return assemble(Settings(database_url=url, secret_key=KEY, send_limit=None), PATIENT)

        services = runner.run(create())
        yield runner, services
        runner.run(services.storage.close())


async def new_user(services: Services) -> User:
    """A user without a password, which would take long to hash."""
    global _number
    _number += 1
    user = User(username=f"user{_number}", username_key=f"user{_number}", password_hash="")
    await services.storage.write(lambda tx: rows.add(tx, user))
    return user


_number = 0


def test_poll_from_memory_equals_poll_from_the_database(database: str) -> None:
    """In any history of changes, lost signals and polls, unless a signal is outstanding."""
    History.answered_from_memory = 0
    with assembled(database) as (runner, services):
        names: st.SearchStrategy[list[str]] = st.one_of(st.just([]), st.lists(st.sampled_from(NAMES), max_size=2))
        step = st.tuples(STEPS, CURSORS, names)

        @settings(max_examples=20)
        @given(st.lists(step, min_size=10, max_size=30))
        def check(steps: list[Any]) -> None:
            async def run() -> None:
                user = await new_user(services)
                history = History(services, user)
                history.readers = [await signed_in(services, user) for _ in range(2)]
                await history.polls.poll(history.readers[0])
                for (action, number), cursor, wanted in steps:
                    await history.step(action, number, cursor, wanted)
                # Another history must not find these.
                for each in list(services.hub._users[user.id].subscribers) if user.id in services.hub._users else []:
                    services.hub.remove(each)

            runner.run(run())

        check()
    assert History.answered_from_memory > 5


def test_batch_of_reads_equals_single_reads(database: str) -> None:
    with assembled(database) as (runner, services):

        async def prepare() -> tuple[list[Reader], list[int]]:
            users = [await new_user(services) for _ in range(2)]
            live = [await signed_in(services, users[0]), *[await signed_in(services, users[1]) for _ in range(2)]]
            ended = await signed_in(services, users[0])
            await services.sessions.end_session(ended)
            forged = Reader(users[1].id, live[0].token_hash)
            await services.storage.write(lambda tx: rows.add_session(tx, users[0].id, "expired", True, -1))
            stamps = []
            for number in range(6):
                name = NAMES[number % 2]
                added = await services.notifications.add_notification(users[number % 2].id, name, number)
                stamps.append(added.timestamp)
                if number % 3:
                    await services.notifications.add_notification(users[number % 2].id, f"n{number}", number)
            return [*live, ended, forged, Reader(users[0].id, "expired"), Reader(users[0].id, "unknown")], stamps

        readers, stamps = runner.run(prepare())
        around = [each + off for each in stamps for off in (-1, 0, 1)]
        cursors = st.sampled_from([0, *around, stamps[-1] + 10**9, FURTHEST])
        wanted = st.tuples(
            st.sampled_from(readers), cursors, st.frozensets(st.sampled_from(["a", "b", "n1", "none"]), max_size=2)
        )

        @settings(max_examples=25)
        @given(st.lists(wanted, min_size=1, max_size=12))
        def check(batch: list[tuple[Reader, int, frozenset[str]]]) -> None:
            async def run() -> None:
                questions = [(reader.token_hash, reader.user_id, cursor, names) for reader, cursor, names in batch]
                pages = await notification_rows.since_each(services.storage, questions)
                assert len(pages) == len(questions)
                for question, page in zip(questions, pages, strict=True):
                    alone = await notification_rows.since(services.storage, *question)
                    if alone is None:
                        assert page is None
                        continue
                    assert page is not None
                    assert listed(page.notifications) == listed(alone.notifications)
                    assert page.clock == alone.clock
                    assert abs(page.expires - alone.expires) < 60e6

            runner.run(run())

        check()


async def test_watch_confirms_the_greatest_cursor_of_its_polls(polls: Polls, services: Services, susan: User) -> None:
    reader = await signed_in(services, susan)
    assert await polls.poll(reader) == []
    sent = await services.notifications.add_notification(susan.id, "n", 1)
    await polls.poll(reader)
    assert services.hub.confirmed()[susan.id] < sent.timestamp
    await polls.poll(reader, sent.timestamp)
    assert services.hub.confirmed() == {susan.id: sent.timestamp}
    await polls.poll(reader, 0)
    assert services.hub.confirmed() == {susan.id: sent.timestamp}


async def test_use_of_a_token_is_noted_with_and_without_a_read(services: Services, susan: User) -> None:
    used: list[Reader] = []
    feed = Feed(services.storage, services.hub, StubBus(), PATIENT, used.append)
    reader = reader_of(await services.tokens.add(susan, "test", ["notifications:read"]))
    for _ in range(2):
        assert await feed.page(reader, 0) == []
    assert feed.known(reader, 0) == []
    await feed.close()
    assert used == [reader] * 3

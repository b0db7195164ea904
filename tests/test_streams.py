"""Streams and reads without a database: who is read for, what a failure does, and how both end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from microblog_rt.accounts import Reader
from microblog_rt.bus import MemoryBus
from microblog_rt.errors import Draining, SignedOut, Unavailable
from microblog_rt.feed import reads
from microblog_rt.feed.reads import Reads
from microblog_rt.feed.streams import Follower, Stream
from microblog_rt.hub import UNKNOWN, Hub
from microblog_rt.protocol import FURTHEST, MICROSECONDS, Notification, Signal
from microblog_rt.storage import notifications as notification_rows
from microblog_rt.storage.notifications import Page
from microblog_rt.timeouts import Timeouts

SUSAN = 1
NEVER = 10**10  # loop time
TIMEOUTS = replace(Timeouts(), feed_retry_min=0, feed_retry_max=0)
DEADLINE = 30.0


def page(*found: Notification, clock: int = 10, lasts: float = 3600) -> Page:
    return Page(list(found), clock, round((time.time() + lasts) * MICROSECONDS))


class StubDatabase:
    """Answers each read with what ``answers`` returns for a question."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.answer: Callable[[Any], Page | None] = lambda _: page()
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most = 0

    async def since(self, _: object, *question: Any) -> Page | None:
        return (await self.since_each(_, [question[:-1]], question[-1]))[0]

    async def since_each(self, _: object, questions: Sequence[Any], bearer: bool) -> list[Page | None]:
        self.batches.append(list(questions))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            return [self.answer(each) for each in questions]
        finally:
            self.running -= 1


class SlowBus(MemoryBus):
    """A bus that confirms each subscription when the test says so."""

    confirms = True

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[int] = []
        self.confirmed = asyncio.Event()

    async def wait_subscribed(self, user_id: int) -> None:
        self.waited.append(user_id)
        await self.confirmed.wait()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubDatabase:
    made = StubDatabase()
    monkeypatch.setattr(notification_rows, "since", made.since)
    monkeypatch.setattr(notification_rows, "since_each", made.since_each)
    return made


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


@pytest.fixture
async def feed_reads(bus: MemoryBus) -> AsyncIterator[Reads]:
    made = Reads(None, bus, TIMEOUTS)  # type: ignore[arg-type]
    yield made
    await made.close()


class Recorder(Stream):
    """A stream that keeps what it takes."""

    def __init__(self, feed_reads: Reads, since: int = 0) -> None:
        super().__init__(feed_reads, Reader(SUSAN, "t"), since)
        self.pages: list[list[int]] = []
        self.error: Exception | None = None

    def take(self, found: list[Notification]) -> None:
        self.pages.append([each.timestamp for each in found])

    def end(self, error: Exception) -> None:
        self.ended, self.error = True, error

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0)

    async def opened(self) -> "Recorder":
        """Ask for the first page and wait for it."""
        self.advance()
        await self.until(lambda: bool(self.pages) or self.ended)
        return self


async def test_equal_questions_share_a_read(stub: StubDatabase, feed_reads: Reads) -> None:
    streams = [Recorder(feed_reads) for _ in range(5)]
    for each in streams:
        each.advance()
    for each in streams:
        await each.until(lambda each=each: each.pages == [[]])  # type: ignore[misc]
    assert stub.batches == [[("t", SUSAN, 0, frozenset())]]


async def test_questions_that_wait_together_share_a_query(stub: StubDatabase, feed_reads: Reads) -> None:
    streams = [Recorder(feed_reads, since=number) for number in range(reads.BATCH + 1)]
    for each in streams:
        each.advance()
    await streams[-1].until(lambda: streams[-1].started)
    await streams[0].until(lambda: streams[0].started)
    assert sorted(map(len, stub.batches)) == [1, reads.BATCH]


async def test_few_reads_run_at_a_time(stub: StubDatabase, feed_reads: Reads) -> None:
    stub.gate.clear()
    streams = [Recorder(feed_reads, since=number) for number in range(20 * reads.BATCH)]
    for each in streams:
        each.advance()
    async with asyncio.timeout(DEADLINE):
        while stub.running < reads.AT_ONCE:
            await asyncio.sleep(0)
    stub.gate.set()
    for each in streams:
        await each.until(lambda each=each: each.started)  # type: ignore[misc]
    assert stub.most == reads.AT_ONCE
    assert len(stub.batches) == 20


async def test_read_waits_until_a_new_subscriber_is_subscribed(stub: StubDatabase) -> None:
    bus = SlowBus()
    feed_reads = Reads(None, bus, TIMEOUTS)  # type: ignore[arg-type]
    stream = Recorder(feed_reads)
    stream.advance()
    async with asyncio.timeout(DEADLINE):
        while not bus.waited:
            await asyncio.sleep(0)
    assert stub.batches == []
    bus.confirmed.set()
    await stream.until(lambda: stream.pages == [[]])
    stream.deliver(Signal(SUSAN, 11))
    await stream.until(lambda: not stream.asked)
    assert bus.waited == [SUSAN], "a later read need not wait"
    await feed_reads.close()


async def test_failing_stream_does_not_fail_others_of_its_read(
    stub: StubDatabase, feed_reads: Reads, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        def take(self, found: list[Notification]) -> None:
            raise RuntimeError("a bug")

    failing, other = Failing(feed_reads), Recorder(feed_reads)
    failing.advance()
    await other.opened()
    assert other.pages == [[]]
    assert isinstance(failing.error, RuntimeError)
    assert caplog.messages == ["answering a read failed"]


async def test_failed_first_read_ends_a_stream(stub: StubDatabase, feed_reads: Reads) -> None:
    def unavailable(_: object) -> Page:
        raise Unavailable

    stub.answer = unavailable
    stream = await Recorder(feed_reads).opened()
    assert isinstance(stream.error, Unavailable)


async def test_later_read_is_repeated_while_the_database_is_unavailable(stub: StubDatabase, feed_reads: Reads) -> None:
    stream = await Recorder(feed_reads).opened()
    failures = 2

    def answer(_: object) -> Page:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise Unavailable
        return page(Notification("n", "1", 12), clock=12)

    stub.answer = answer
    stream.deliver(Signal(SUSAN, 12))
    await stream.until(lambda: stream.pages == [[], [12]])
    assert failures == -1


async def test_later_read_that_fails_unexpectedly_ends_a_stream(stub: StubDatabase, feed_reads: Reads) -> None:
    stream = await Recorder(feed_reads).opened()

    def answer(_: object) -> Page:
        raise RuntimeError("a bug")

    stub.answer = answer
    stream.deliver(Signal(SUSAN, 12))
    await stream.until(lambda: stream.ended)
    assert isinstance(stream.error, RuntimeError)


@pytest.mark.parametrize("fails", [True, False])
async def test_stream_that_ended_during_its_read_takes_nothing(
    stub: StubDatabase, feed_reads: Reads, fails: bool
) -> None:
    def answer(_: object) -> Page:
        if fails:
            raise Unavailable
        return page(Notification("n", "1", 5))

    stub.answer = answer
    stub.gate.clear()
    stream, other = Recorder(feed_reads), Recorder(feed_reads)
    stream.advance()
    other.advance()
    async with asyncio.timeout(DEADLINE):
        while not stub.running:
            await asyncio.sleep(0)
    stream.close(3.0)
    first = stream.error
    stub.gate.set()
    await other.until(lambda: other.started or other.ended)
    assert isinstance(first, Draining)
    assert (stream.pages, stream.error) == ([], first)


async def test_ended_session_ends_a_stream(stub: StubDatabase, feed_reads: Reads) -> None:
    stream = await Recorder(feed_reads).opened()
    stub.answer = lambda _: None
    stream.deliver(Signal(SUSAN, 11))
    await stream.until(lambda: stream.ended)
    assert isinstance(stream.error, SignedOut)


async def test_stream_that_has_ended_is_not_closed_again(stub: StubDatabase, feed_reads: Reads) -> None:
    """A drain closes the streams that there were when it began."""
    stream = await Recorder(feed_reads).opened()
    stream.close(1.0)
    first = stream.error
    stream.close(2.0)
    assert stream.error is first


async def test_expired_stream_reads_again(stub: StubDatabase, feed_reads: Reads) -> None:
    stream = await Recorder(feed_reads).opened()
    stream.expire()
    await stream.until(lambda: not stream.asked)
    assert len(stub.batches) == 2
    assert stream.expires < NEVER, "known again"
    assert not stream.ended


async def test_signal_during_the_last_read_of_a_task_is_read_for(stub: StubDatabase, feed_reads: Reads) -> None:
    stub.gate.clear()
    stream = Recorder(feed_reads)
    stream.advance()
    async with asyncio.timeout(DEADLINE):
        while not stub.running:
            await asyncio.sleep(0)
    stream.deliver(Signal(SUSAN, 11))
    answers = [page(), page(Notification("n", "1", 11), clock=11)]
    stub.answer = lambda _: answers.pop(0)
    stub.gate.set()
    await stream.until(lambda: stream.pages == [[], [11]])
    assert stream.cursor == 11


async def test_closed_reads_end_their_tasks(stub: StubDatabase, feed_reads: Reads) -> None:
    stub.gate.clear()
    Recorder(feed_reads).advance()
    async with asyncio.timeout(DEADLINE):
        while not stub.running:
            await asyncio.sleep(0)
    await feed_reads.close()
    assert stub.running == 0


# A follower


async def follower_of(hub: Hub, feed_reads: Reads) -> Follower:
    follower = Follower(feed_reads, Reader(SUSAN, "t"), 0, ())
    hub.add(follower)
    assert await follower.next(NEVER) == []
    return follower


async def test_follower_returns_nothing_at_its_deadline(stub: StubDatabase, feed_reads: Reads) -> None:
    follower = await follower_of(Hub(), feed_reads)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert await follower.next(begun + 0.02) is None
    assert loop.time() >= begun + 0.02 - 0.001


async def test_follower_keeps_what_arrives_between_two_waits(stub: StubDatabase, feed_reads: Reads) -> None:
    hub = Hub()
    follower = await follower_of(hub, feed_reads)
    for clock in (11, 12):
        hub.deliver(Signal(SUSAN, clock, clock - 1, Notification("n", str(clock), clock)))
    assert [each.timestamp for each in await follower.next(NEVER) or []] == [12]
    assert len(stub.batches) == 1


async def test_follower_closed_between_two_waits_raises_at_the_next(stub: StubDatabase, feed_reads: Reads) -> None:
    hub = Hub()
    follower = await follower_of(hub, feed_reads)
    follower.close(3.0)
    for _ in range(2):
        with pytest.raises(Draining):
            await follower.next(NEVER)


async def test_follower_closed_after_news_raises_first(stub: StubDatabase, feed_reads: Reads) -> None:
    """News and the end in one turn of the loop: the end is what counts (I8)."""
    hub = Hub()
    follower = await follower_of(hub, feed_reads)
    waiting = asyncio.create_task(follower.next(NEVER))
    await asyncio.sleep(0)
    hub.deliver(Signal(SUSAN, 11, 10, Notification("n", "1", 11)))
    follower.end(SignedOut())
    with pytest.raises(SignedOut):
        await waiting


async def test_follower_ahead_of_the_clock_is_set_back(stub: StubDatabase, feed_reads: Reads) -> None:
    follower = Follower(feed_reads, Reader(SUSAN, "t"), FURTHEST, ())
    assert await follower.next(NEVER) == []
    assert follower.cursor == 10


async def test_stream_of_every_name_confirms_its_cursor(stub: StubDatabase, feed_reads: Reads) -> None:
    hub = Hub()
    new = Follower(feed_reads, Reader(SUSAN, "t"), 5, ())
    some = Follower(feed_reads, Reader(SUSAN, "t"), 5, ("n",))
    assert (new.confirmed(), some.confirmed()) == (UNKNOWN, UNKNOWN)
    follower = await follower_of(hub, feed_reads)
    hub.deliver(Signal(SUSAN, 11, 10, Notification("n", "1", 11)))
    assert await follower.next(NEVER)
    assert follower.confirmed() == 11
    hub.add(some)
    await some.next(NEVER)
    assert some.confirmed() == UNKNOWN

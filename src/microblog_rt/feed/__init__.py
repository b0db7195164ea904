"""What is newer than a cursor, in order and without a gap: the one source of every transport.

    reads.py     reads, a few at a time, each for all that wait
    streams.py   one tab, stream or held poll
    watches.py   answers polls from memory

Subscribe first, read second: whatever is committed after the subscription is either seen by the read or signalled.
``page`` is the poll, ``hold`` the long poll, ``follow`` the stream; ``open`` a stream without a task.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import aclosing

from microblog_rt import metrics
from microblog_rt.accounts import Reader
from microblog_rt.bus import Bus, Changed
from microblog_rt.errors import Draining, Unavailable
from microblog_rt.feed.reads import Reads
from microblog_rt.feed.streams import Follower, Stream
from microblog_rt.feed.watches import Watch, Watches
from microblog_rt.hub import Hub, UserSubscribers
from microblog_rt.protocol import Notification, Signal
from microblog_rt.storage import Storage, mailboxes
from microblog_rt.storage.notifications import Page
from microblog_rt.timeouts import Timeouts

__all__ = ["Feed", "Follower", "Stream"]

log = logging.getLogger(__name__)


class Feed:
    """The feeds of all users, as seen from this process."""

    def __init__(
        self,
        storage: Storage,
        hub: Hub,
        bus: Bus,
        timeouts: Timeouts = Timeouts(),
        token_used: Callable[[Reader], None] = lambda _: None,
        refused: Callable[[Reader], None] = lambda _: None,
    ) -> None:
        """``token_used`` and ``refused`` are called with the readers whose tokens were used, or had ended."""
        self._storage = storage
        self._hub = hub
        self._bus = bus
        self._timeouts = timeouts
        self.reads = Reads(storage, bus, timeouts, token_used, refused)
        self._token_used = token_used
        self._watches = Watches(storage, hub, bus, lambda: self.reconcile())
        self._to_reconcile: set[int | None] = set()  # None: every user
        self._reconciling: asyncio.Task[None] | None = None
        self._unsignalled: list[tuple[UserSubscribers, int]] = []

    def known(self, reader: Reader, since: int, names: frozenset[str] = frozenset()) -> list[Notification] | None:
        """The answer to a poll, if it is known without a read."""
        page = self._known(reader, since, names)
        return None if page is None else page.notifications

    def _known(self, reader: Reader, since: int, names: frozenset[str]) -> Page | None:
        page = self._watches.page(reader, since, names)
        if page is not None and reader.bearer:
            self._token_used(reader)
        return page

    async def page(self, reader: Reader, since: int, names: Collection[str] = ()) -> list[Notification]:
        """The notifications newer than the cursor ``since``, oldest first. Raises SignedOut, Unavailable."""
        wanted = frozenset(names)
        found = self.known(reader, since, wanted)
        if found is not None:
            return found
        poll = Poll(self._watches.watch(reader), reader, since, wanted)
        self.reads.ask(poll)
        try:
            return await poll.answered
        finally:
            self.reads.drop(poll)

    async def hold(self, reader: Reader, since: int, names: Collection[str], seconds: float) -> list[Notification]:
        """The notifications newer than ``since`` as soon as there are any; empty after ``seconds``. Raises the same."""
        async with aclosing(self.follow(reader, since, names, heartbeat=seconds)) as pages:
            try:
                return await anext(pages) or await anext(pages)
            except Draining:
                return []

    def follow(
        self, reader: Reader, since: int, names: Collection[str] = (), *, heartbeat: float
    ) -> AsyncGenerator[list[Notification]]:
        """``pages`` of a new follower."""
        return self.pages(Follower(self.reads, reader, since, names), heartbeat)

    async def pages(self, follower: Follower, heartbeat: float) -> AsyncGenerator[list[Notification]]:
        """Yield what is newer than the cursor at once, even if ``[]``; then each change, and ``[]`` as a heartbeat.

        Raises SignedOut when the session has ended, Draining when this process is about to end, and Unavailable
        before the first page; after that it waits for the database to be back.
        """
        loop = asyncio.get_running_loop()
        self.open(follower)
        try:
            next_beat = float("inf")
            while True:
                found = await follower.next(min(next_beat, follower.expires))
                if found is not None:
                    yield found
                now = loop.time()
                if next_beat == float("inf"):
                    next_beat = now + heartbeat
                if now >= next_beat:
                    # From now, not from when it was due: a burst after a pause would count as unanswered heartbeats.
                    next_beat = now + heartbeat
                    yield []
                if now >= follower.expires:
                    follower.expire()
        finally:
            self.leave(follower)

    def open(self, stream: Stream) -> None:
        """Subscribe ``stream`` and read for it, unless what it would read is known; ``leave`` must follow."""
        self._hub.add(stream)
        page = self._known(stream.reader, stream.cursor, stream.names)
        if page is None or stream.ended:
            stream.advance()
        else:
            stream.begin()
            stream.answer(page)

    def watch(self, stream: Stream) -> Watch:
        """A watch of that user, so that the next poll need not read."""
        return self._watches.watch(stream.reader)

    def leave(self, stream: Stream) -> None:
        """Unsubscribe ``stream``."""
        stream.ended = True
        self.reads.drop(stream)
        self._hub.remove(stream)

    async def close(self) -> None:
        """End the reads."""
        await self.reads.close()
        await self._watches.close()

    async def reconcile(self, user_ids: Iterable[int] | None = None, *, by_sweep: bool = False) -> dict[int, int]:
        """Signal the subscribers whose position is behind the clock in the database.

        One query for all ``user_ids`` (None: every user with a subscriber here), whose clocks then count as signalled,
        unless ``by_sweep``. Return the clocks of those who were behind, by user. Raises Unavailable.
        """
        positions = self._hub.positions(user_ids)
        if not positions:
            return {}  # without a query: a database that is unavailable must not be logged as available again
        async with self._storage.reading() as reading:
            clocks = await mailboxes.clocks(reading, positions)
        for user_id, clock in clocks.items():
            if clock < positions[user_id]:  # a backup was restored
                self._watches.forget(user_id)
        behind = {user_id: clock for user_id, clock in clocks.items() if clock > positions[user_id]}
        for user_id, clock in (behind if by_sweep else clocks).items():
            self._hub.deliver(Signal(user_id, clock), by_sweep=by_sweep)
        return behind

    async def sweep(self, every: float) -> None:
        """Reconcile every ``every`` seconds, forever."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.sweep_once()
            except Unavailable:
                pass  # storage has logged it
            except Exception:
                log.exception("sweep failed")

    async def sweep_once(self) -> None:
        """Reconcile, and count the signals that were lost.

        A signal may still be on its way when a sweep finds its user behind. It is lost if it has not arrived by the
        next sweep.
        """
        self._watches.end_unused()
        metrics.SIGNALS_LOST.count(sum(user.misses(clock) for user, clock in self._unsignalled))
        self._unsignalled = []
        for user_id, clock in (await self.reconcile(by_sweep=True)).items():
            user = self._hub.user(user_id)
            if user is not None and user.misses(clock):
                self._unsignalled.append((user, clock))

    async def receive(self, bus: Bus) -> None:
        """Deliver what the other processes signal to the subscribers here, forever. Restarts a bus that fails."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    return await self._receive_from(bus, tasks)
                except Exception:
                    log.exception("bus failed, restarting it")
                self._watches.forget()
                self._request_reconcile(None, tasks)
                await asyncio.sleep(self._timeouts.bus_restart)

    async def _receive_from(self, bus: Bus, tasks: asyncio.TaskGroup) -> None:
        async with aclosing(bus.events()) as events:
            async for event in events:
                if isinstance(event, Signal):
                    self._hub.deliver(event)
                elif isinstance(event, Changed):
                    self._request_reconcile(None, tasks)
                else:
                    metrics.GAPS.count(event.user_id is None)
                    self._watches.forget(event.user_id)
                    self._request_reconcile(event.user_id, tasks)

    def _request_reconcile(self, user_id: int | None, tasks: asyncio.TaskGroup) -> None:
        self._to_reconcile.add(user_id)
        if self._reconciling is None or self._reconciling.done():
            self._reconciling = tasks.create_task(self._reconcile_requested())

    async def _reconcile_requested(self) -> None:
        # One at a time: requests that arrive meanwhile share the next query.
        while self._to_reconcile:
            requested, self._to_reconcile = self._to_reconcile, set()
            try:
                await self.reconcile(None if None in requested else [each for each in requested if each is not None])
            except Unavailable:
                pass  # storage has logged it, and the next sweep retries
            except Exception:
                log.exception("reconcile failed; the next sweep retries")


class Poll:
    """A poll that waits for a read."""

    started = False

    def __init__(self, watch: Watch, reader: Reader, since: int, names: frozenset[str]) -> None:
        self._watch = watch
        self.reader = reader
        self.cursor = since
        self.names = names
        self.answered: asyncio.Future[list[Notification]] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """Nothing to note: the watch compares clocks."""

    def answer(self, page: Page | None) -> None:
        if page is None:
            self._watch.refuse(self.reader)
            self.fail(self.reader.ended)
            return
        if not self.names:
            self._watch.learn(self.reader, self.cursor, page)
        if not self.answered.done():
            self.answered.set_result(page.notifications)

    def fail(self, error: Exception) -> bool:
        if not self.answered.done():
            self.answered.set_exception(error)
        return False

    def ask_again(self) -> None:
        raise NotImplementedError  # a poll fails instead

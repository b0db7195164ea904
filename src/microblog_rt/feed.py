"""What is newer than a cursor, in order and without a gap: the one source of every transport.

Subscribe first, read second: whatever is committed after the subscription is either seen by the read or signalled.
``page`` is the poll, ``hold`` the long poll, ``follow`` the stream.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing

from microblog_rt import metrics, protocol
from microblog_rt.accounts import Reader
from microblog_rt.bus import Bus, Changed
from microblog_rt.errors import Draining, SignedOut, Unavailable
from microblog_rt.hub import Hub, Subscriber, UserSubscribers
from microblog_rt.protocol import MICROSECONDS, Notification, Signal
from microblog_rt.storage import Storage, mailboxes, notifications, sql_time
from microblog_rt.storage.notifications import Page
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)


class Feed:
    """The feeds of all users, as seen from this process."""

    def __init__(self, storage: Storage, hub: Hub, bus: Bus, timeouts: Timeouts = Timeouts()) -> None:
        self._storage = storage
        self._hub = hub
        self._bus = bus
        self._timeouts = timeouts
        self._to_reconcile: set[int | None] = set()  # None: every user
        self._reconciling: asyncio.Task[None] | None = None
        self._unsignalled: list[tuple[UserSubscribers, int]] = []

    async def page(self, reader: Reader, since: int, names: Collection[str] = ()) -> list[Notification]:
        """The notifications newer than the cursor ``since``, oldest first. Raises SignedOut, Unavailable."""
        return (await self._read(reader, since, names)).notifications

    async def hold(self, reader: Reader, since: int, names: Collection[str], seconds: float) -> list[Notification]:
        """The notifications newer than ``since`` as soon as there are any; empty after ``seconds``. Raises the same."""
        async with aclosing(self.follow(reader, since, names, heartbeat=seconds)) as pages:
            try:
                return await anext(pages) or await anext(pages)
            except Draining:
                return []

    async def follow(
        self, reader: Reader, since: int, names: Collection[str] = (), *, heartbeat: float
    ) -> AsyncGenerator[list[Notification]]:
        """Yield what is newer than ``since`` at once, even if ``[]``; then each change, and ``[]`` as a heartbeat.

        Raises SignedOut when the session has ended, Draining when this process is about to end, and Unavailable
        before the first page; after that it waits for the database to be back.
        """
        loop = asyncio.get_running_loop()
        with self._hub.subscribe(reader.user_id) as subscriber:
            await self._bus.wait_subscribed(reader.user_id)
            page = await self._catch_up(reader, since, names, subscriber)
            yield page.notifications
            since = _cursor_after(page, since)
            expires = loop.time() + _seconds_left(page)
            next_beat = loop.time() + heartbeat
            not_before = loop.time()
            while True:
                await subscriber.wait(min(next_beat, max(expires, not_before)), not_before)
                if subscriber.closing:
                    raise Draining(subscriber.back_in)
                if loop.time() >= next_beat:
                    # From now, not from when it was due: after a pause a burst of them would look like silence.
                    next_beat = loop.time() + heartbeat
                    yield []
                if loop.time() < not_before:
                    continue
                if subscriber.must_read or loop.time() >= expires:
                    try:
                        page = await self._catch_up(reader, since, names, subscriber)
                    except Unavailable:
                        subscriber.read_failed()
                        not_before = loop.time() + self._retry_in()
                        continue
                    since = _cursor_after(page, since)
                    expires = loop.time() + _seconds_left(page)
                    found = page.notifications
                else:
                    found = _named(subscriber.take_pending(), names)
                if found:
                    since = found[-1].timestamp
                    metrics.SENT_AFTER.observe(protocol.age(found[0]))
                    yield found

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

    async def _catch_up(self, reader: Reader, since: int, names: Collection[str], subscriber: Subscriber) -> Page:
        subscriber.begin_read()
        page = await self._read(reader, since, names)
        subscriber.end_read(page.clock)
        return page

    async def _read(self, reader: Reader, since: int, names: Collection[str]) -> Page:
        page = await notifications.since(self._storage, reader.token_hash, reader.user_id, since, names)
        if page is None:
            raise SignedOut
        return page

    def _retry_in(self) -> float:
        # Random, so that thousands of subscribers do not retry together.
        return random.uniform(self._timeouts.feed_retry_min, self._timeouts.feed_retry_max)  # noqa: S311


def _named(found: list[Notification], names: Collection[str]) -> list[Notification]:
    return [each for each in found if each.name in names] if names else found


def _cursor_after(page: Page, since: int) -> int:
    """The client's cursor after ``page``; one that was ahead of the clock is set back to it."""
    return page.notifications[-1].timestamp if page.notifications else min(since, page.clock)


def _seconds_left(page: Page) -> float:
    return (page.expires - sql_time.now()) / MICROSECONDS

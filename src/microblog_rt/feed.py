"""What is new since a cursor, in order, without a gap: the one source that every transport drains.

Listen first, read second: whatever is committed after the listening began either is seen by the read or
signals the subscriber. ``page`` is the poll, ``follow`` the stream, ``hold`` the long poll. Not here: formats
(``protocol``) and connections (``web/``).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import timedelta

from microblog_rt import metrics, protocol
from microblog_rt.accounts import Accounts, Reader
from microblog_rt.bus import Bus, Changed
from microblog_rt.errors import Draining, SignedOut, Unavailable
from microblog_rt.hub import Hub, Subscriber
from microblog_rt.models import MICROSECOND
from microblog_rt.protocol import MICROSECONDS, Notification, Signal
from microblog_rt.storage import Storage, clock, sql_time
from microblog_rt.storage import notifications as rows

log = logging.getLogger(__name__)

STREAM_USE_NOTED_EVERY = timedelta(hours=1) // MICROSECOND
BUS_PAUSE = 1.0  # seconds
AGAIN_IN = (0.5, 2.0)  # seconds, from one attempt to read to the next; each its own, lest they come as a herd


class Feed:
    """The feed of every user, as seen from this process."""

    def __init__(self, storage: Storage, hub: Hub, bus: Bus, accounts: Accounts) -> None:
        self._storage = storage
        self._hub = hub
        self._bus = bus
        self._accounts = accounts

    async def page(self, reader: Reader, since: int, names: Collection[str] = ()) -> list[Notification]:
        """What is newer than ``since`` now, oldest first; raises SignedOut where the session has ended."""
        page = await self._read(reader, since, names)
        await self._accounts.note_use(reader, page.last_used)
        return page.notifications

    async def hold(self, reader: Reader, since: int, names: Collection[str], seconds: float) -> list[Notification]:
        """What is newer than ``since`` as soon as there is something; empty after ``seconds``. Raises SignedOut."""
        async with aclosing(self.follow(reader, since, names, heartbeat=seconds)) as pages:
            try:
                return await anext(pages) or await anext(pages)
            except Draining:
                return []

    async def follow(
        self, reader: Reader, since: int, names: Collection[str] = (), *, heartbeat: float
    ) -> AsyncGenerator[list[Notification]]:
        """Yield at once what is newer than ``since``, if only ``[]``; then each change, and ``[]`` as a heartbeat.

        Goes on until SignedOut (the session has ended) or Draining (this process is about to).
        """
        loop = asyncio.get_running_loop()
        with self._hub.subscribe(reader.user_id) as subscriber:
            await self._bus.wait_subscribed(reader.user_id)
            page = await self._catch_up(reader, since, names, subscriber)
            noted = await self._accounts.note_use(reader, page.last_used, STREAM_USE_NOTED_EVERY)
            yield page.notifications
            since = _cursor_after(page, since)
            ends = loop.time() + _seconds_left(page)
            beats = loop.time() + heartbeat
            again = loop.time()
            while True:
                await subscriber.wait(min(beats, max(ends, again)), again)
                if subscriber.closing:
                    raise Draining(subscriber.back_in)
                if loop.time() >= beats:
                    # From now on, not from when it was due: after a pause a burst of them would look like silence.
                    beats = loop.time() + heartbeat
                    noted = await self._accounts.note_use(reader, noted, STREAM_USE_NOTED_EVERY)
                    yield []
                if loop.time() < again:
                    continue
                if subscriber.must_read or loop.time() >= ends:
                    try:
                        page = await self._catch_up(reader, since, names, subscriber)
                    except Unavailable:
                        # No reason to send anybody away: who cannot be told now is told when the database is back.
                        subscriber.distrust()
                        again = loop.time() + random.uniform(*AGAIN_IN)  # noqa: S311
                        continue
                    since = _cursor_after(page, since)
                    ends = loop.time() + _seconds_left(page)
                    notifications = page.notifications
                else:
                    notifications = _named(subscriber.take_pending(), names)
                if notifications:
                    since = notifications[-1].timestamp
                    metrics.SENT_AFTER.observe(protocol.age(notifications[0]))
                    yield notifications

    async def sweep(self, every: float) -> None:
        """For ever, once in ``every`` seconds: signal whoever's clock has moved past what they know here."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.sweep_once()
            except Unavailable:
                pass  # storage has said so
            except Exception:
                log.exception("the sweep failed; it goes on")

    async def sweep_once(self) -> None:
        """Compare each listened-to user's clock with the position of their subscribers; signal those behind."""
        positions = self._hub.positions()
        if not positions:
            return  # where nothing is asked, nothing is answered: a database that is away would be told to be back
        async with self._storage.reading() as reading:
            clocks = await clock.clocks(reading, positions)
        for user_id, reached in clocks.items():
            if reached > positions[user_id]:
                metrics.SWEEP_FINDS.count(not self._hub.has_heard(user_id, reached))
                self._hub.deliver(Signal(user_id, reached))

    async def relay(self, bus: Bus) -> None:
        """As long as the bus tells: pass it on to the subscribers here. One that fails is begun again."""
        while True:
            try:
                return await self._pass_on(bus)
            except Exception:
                log.exception("the bus failed; everybody reads, and it begins again")
            self._hub.wake_all()
            await asyncio.sleep(BUS_PAUSE)

    async def _pass_on(self, bus: Bus) -> None:
        async with aclosing(bus.events()) as words:
            async for word in words:
                if isinstance(word, Signal):
                    self._hub.deliver(word)
                elif isinstance(word, Changed):
                    await self._look_who_is_behind()
                elif word.user_id is None:
                    metrics.GAPS.count()
                    self._hub.wake_all()
                else:
                    self._hub.distrust(word.user_id)

    async def _look_who_is_behind(self) -> None:
        with contextlib.suppress(Unavailable):  # storage has said so; the sweep will look again
            await self.sweep_once()

    async def _catch_up(self, reader: Reader, since: int, names: Collection[str], subscriber: Subscriber) -> rows.Page:
        subscriber.begin_read()
        page = await self._read(reader, since, names)
        subscriber.end_read(page.clock)
        return page

    async def _read(self, reader: Reader, since: int, names: Collection[str]) -> rows.Page:
        page = await rows.since(self._storage, reader.token_hash, reader.user_id, since, names)
        if page is None:
            raise SignedOut
        return page


def _named(notifications: list[Notification], names: Collection[str]) -> list[Notification]:
    return [each for each in notifications if each.name in names] if names else notifications


def _cursor_after(page: rows.Page, since: int) -> int:
    """Where a client stands after ``page``; a cursor ahead of the clock comes down to it."""
    return page.notifications[-1].timestamp if page.notifications else min(since, page.clock)


def _seconds_left(page: rows.Page) -> float:
    return (page.expires - sql_time.now()) / MICROSECONDS

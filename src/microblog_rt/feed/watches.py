"""Watches: users who poll, whose polls are answered from memory while nothing was missed.

A watch begins with a read after subscribing: it knows what that read found, and every notification that has followed on
from it without a gap. A session that was valid at that read is still valid, since its end would have been a signal.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from microblog_rt.accounts import Reader
from microblog_rt.bus import Bus
from microblog_rt.errors import Unavailable
from microblog_rt.hub import NAMES_KEPT, UNKNOWN, Hub, Subscriber
from microblog_rt.protocol import FURTHEST, MICROSECONDS, Notification, Signal
from microblog_rt.storage import Storage, sql_time
from microblog_rt.storage.notifications import Page

log = logging.getLogger(__name__)

UNUSED_SECONDS = 30.0
SESSIONS_KEPT = 32


class Watch(Subscriber):
    """What is known of one user's notifications, from the cursor ``floor`` up to ``position``."""

    __slots__ = ("_confirmed", "_floor", "_latest", "_sessions", "_signalled", "used")

    drains = False

    def __init__(self, user_id: int) -> None:
        super().__init__(user_id)
        self.used = 0.0
        self._signalled = UNKNOWN
        self._confirmed = UNKNOWN  # the greatest cursor of a poll
        self.forget()

    @property
    def current(self) -> bool:
        """Whether everything up to the newest signal is known."""
        return self.position != FURTHEST

    def confirmed(self) -> int:
        return self._confirmed

    def forget(self) -> None:
        """Know nothing until the next read."""
        self.position = FURTHEST  # never behind, so that no sweep asks for a read
        self._floor = FURTHEST
        self._latest: dict[str, Notification] = {}
        self._sessions: dict[str, float] = {}  # when they expire, in loop time

    def deliver(self, signal: Signal) -> None:
        """Add a notification that follows on; know nothing after any other signal."""
        if signal.clock <= self._signalled:
            return
        self._signalled = signal.clock
        if signal.clock <= self.position and self.current:
            return
        if self.current and signal.notification is not None and signal.follows == self.position:
            self._latest.pop(signal.notification.name, None)
            if len(self._latest) < NAMES_KEPT:
                self._latest[signal.notification.name] = signal.notification
                self.position = signal.clock
                return
        self.forget()

    def learn(self, reader: Reader, since: int, page: Page) -> None:
        """Add what a read from the cursor ``since`` found, unless a newer signal has arrived meanwhile."""
        if since <= page.clock:
            self._confirmed = max(self._confirmed, since)
        if page.clock < self._signalled or len(page.notifications) > NAMES_KEPT:
            return
        if since > page.clock:
            since = 0
        if not self.current or self.position < page.clock:
            self.forget()
            self.position = page.clock
        elif self.position > page.clock:
            return
        if since < self._floor:
            self._floor = since
            self._latest = {each.name: each for each in page.notifications}
        if len(self._sessions) < SESSIONS_KEPT or reader.token_hash in self._sessions:
            left = (page.expires - sql_time.now()) / MICROSECONDS
            self._sessions[reader.token_hash] = asyncio.get_running_loop().time() + left

    def refuse(self, reader: Reader) -> None:
        """Note that the session has ended: a read has found that before its signal arrived."""
        self._sessions.pop(reader.token_hash, None)

    def page(self, reader: Reader, cursor: int, names: frozenset[str]) -> Page | None:
        """What a read would answer; None if only a read can tell."""
        if not self._floor <= cursor <= self.position or not self.current:
            return None
        left = self._sessions.get(reader.token_hash, 0.0) - asyncio.get_running_loop().time()
        if left <= 0:
            return None
        if cursor > self._confirmed and not names:
            self._confirmed = cursor
        newer = [each for each in self._latest.values() if each.timestamp > cursor]
        found = [each for each in newer if not names or each.name in names]
        return Page(found, self.position, sql_time.now() + round(left * MICROSECONDS))


class Watches:
    """The watches of this process. Each ends ``UNUSED_SECONDS`` after its last poll."""

    def __init__(self, storage: Storage, hub: Hub, bus: Bus, reconcile: Callable[[], Awaitable[object]]) -> None:
        self._storage = storage
        self._hub = hub
        self._bus = bus
        self._reconcile = reconcile
        self._watches: dict[int, Watch] = {}
        self._catching_up: asyncio.Task[None] | None = None

    def page(self, reader: Reader, cursor: int, names: frozenset[str]) -> Page | None:
        """What a read would answer, from memory; None if only a read can tell."""
        watch = self._watches.get(reader.user_id)
        if watch is None:
            return None
        page = watch.page(reader, cursor, names)
        if page is None or not self._is_signalled():
            return None
        watch.used = asyncio.get_running_loop().time()
        return page

    def watch(self, reader: Reader) -> Watch:
        """The watch of that user, which is subscribed from now on; read after that."""
        watch = self._watches.get(reader.user_id)
        if watch is None:
            watch = self._watches[reader.user_id] = Watch(reader.user_id)
            self._hub.add(watch)
        watch.used = asyncio.get_running_loop().time()
        return watch

    def forget(self, user_id: int | None = None) -> None:
        """Read for the next poll of that user, or of every user: signals may have been lost."""
        for watch in self._watches.values() if user_id is None else filter(None, [self._watches.get(user_id)]):
            watch.forget()

    def end_unused(self) -> None:
        """End the watches of users who poll no longer."""
        oldest = asyncio.get_running_loop().time() - UNUSED_SECONDS
        for user_id, watch in list(self._watches.items()):
            if watch.used < oldest:
                del self._watches[user_id]
                self._hub.remove(watch)

    def _is_signalled(self) -> bool:
        """Whether a change by any process would have been signalled here."""
        state = self._bus.health().state
        if state != "single_process" or self._storage.is_alone():
            return state in ("connected", "single_process")
        # A command may have changed the database, or another server that should have had a bus.
        if self._storage.notices_commits and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up())
        return False

    async def _catch_up(self) -> None:
        try:
            await self._storage.catch_up(self._reconcile)
        except Unavailable:
            pass  # storage has logged it, and the next poll tries again
        except Exception:
            log.exception("looking for changes by other processes failed")

    async def close(self) -> None:
        """End the task that looks for changes by other processes."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.wait({self._catching_up})

"""Streams: what is newer than a cursor, then every change. A stream is an object without a task.

See also: ``push/tab.py`` and ``push/held_poll.py``, which write to a transport; ``Follower``, for a task that waits.
"""

import asyncio
from collections.abc import Collection

from microblog_rt import metrics, protocol
from microblog_rt.accounts import Reader
from microblog_rt.errors import Draining
from microblog_rt.feed.reads import Reads, is_temporary
from microblog_rt.hub import UNKNOWN, Subscriber
from microblog_rt.protocol import MICROSECONDS, Notification
from microblog_rt.storage import sql_time
from microblog_rt.storage.notifications import Page


class Stream(Subscriber):
    """A subscriber that reads when it must, and passes on what is new."""

    __slots__ = ("_read_as", "_reads", "asked", "cursor", "ended", "expires", "names", "reader", "started")

    def __init__(self, reads: Reads, reader: Reader, since: int, names: Collection[str] = ()) -> None:
        super().__init__(reader.user_id)
        self._reads = reads
        self.reader = self._read_as = reader
        self.cursor = since
        self.names = frozenset(names)
        self.expires = float("inf")  # loop time at which the session expires
        self.asked = False  # a read is waiting or running, or will be repeated
        self.started = False  # the first page was passed on
        self.ended = False

    # For subclasses

    def can_take(self) -> bool:
        """Whether ``take`` may be called; if not, call ``advance`` later."""
        return True

    def take(self, found: list[Notification]) -> None:
        """Take the first page, even an empty one, or a change."""
        raise NotImplementedError

    def end(self, error: Exception) -> None:
        """The stream has ended; set ``ended`` and unsubscribe."""
        raise NotImplementedError

    # For the hub

    def advance(self) -> None:
        """Pass on what is pending, or ask for a read, if the client can take it."""
        if self.asked or self.ended or not self.can_take():
            return
        if self.must_read:
            self.asked = True
            self._reads.ask(self)
        elif self._pending:
            self._pass_on(_named(self.take_pending(), self.names))

    def confirmed(self) -> int:
        return self.cursor if self.started and not self.names else UNKNOWN

    def close(self, back_in: float) -> None:
        if not self.ended:  # a drain closes the streams that there were when it began
            self.end(Draining(back_in))

    def expire(self) -> None:
        """Read again, since the session may have expired."""
        self.expires = float("inf")
        self.want(protocol.FURTHEST)

    def renew(self, reader: Reader) -> None:
        """Continue with another credential of the same user, which is read with at once."""
        self.reader = reader
        self.expire()

    # For ``Reads``

    def begin(self) -> None:
        self._read_as = self.reader
        self.begin_read()

    def answer(self, page: Page | None) -> None:
        self.asked = False
        if self.ended:
            return
        if page is None and self._read_as is not self.reader:
            self.read_failed()  # the credential was replaced meanwhile
            self.advance()
            return
        if page is None:
            self.end(self.reader.ended)
            return
        self.end_read(page.clock)
        self.expires = asyncio.get_running_loop().time() + (page.expires - sql_time.now()) / MICROSECONDS
        # A cursor that was ahead of the clock is set back to it.
        self.cursor = min(self.cursor, page.clock)
        if self.started:
            self._pass_on(page.notifications)
        else:
            self.started = True
            if page.notifications:
                self.cursor = page.notifications[-1].timestamp
            self.take(page.notifications)
        self.advance()

    def fail(self, error: Exception) -> bool:
        if self.ended:
            return False
        if self.started and is_temporary(error):
            self.read_failed()
            return True
        self.end(error)
        return False

    def ask_again(self) -> None:
        self.asked = False
        self.advance()

    def _pass_on(self, found: list[Notification]) -> None:
        if found:
            self.cursor = found[-1].timestamp
            metrics.SENT_AFTER.observe(protocol.age(found[0]))
            self.take(found)


class Follower(Stream):
    """A stream for one task, which waits for pages."""

    __slots__ = ("_error", "_found", "_waiter")

    def __init__(self, reads: Reads, reader: Reader, since: int, names: Collection[str]) -> None:
        super().__init__(reads, reader, since, names)
        self._found: list[Notification] | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def can_take(self) -> bool:
        return self._waiter is not None and self._found is None

    def take(self, found: list[Notification]) -> None:
        self._found = found
        self._wake()

    def answer(self, page: Page | None) -> None:
        super().answer(page)
        self._wake()  # ``expires`` may be earlier now

    def end(self, error: Exception) -> None:
        self.ended, self._error = True, error
        self._wake()

    async def next(self, deadline: float) -> list[Notification] | None:
        """What is new; None at ``deadline``, in loop time. Raises what ended the stream."""
        if self._error is None and self._found is None:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_at(deadline, self._wake)
            try:
                self.advance()
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self._error is not None:
            raise self._error
        found, self._found = self._found, None
        return found

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _named(found: list[Notification], names: Collection[str]) -> list[Notification]:
    return [each for each in found if each.name in names] if names else found

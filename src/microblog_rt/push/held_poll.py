"""A held poll: a stream that ends with its first notifications, or when its time is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from microblog_rt import metrics
from microblog_rt.accounts import Reader
from microblog_rt.errors import Draining
from microblog_rt.feed import Stream
from microblog_rt.protocol import Notification
from microblog_rt.storage.notifications import Page
from microblog_rt.web.admission import Query
from microblog_rt.web.notifications import counted

if TYPE_CHECKING:
    from microblog_rt.push.connection import Connection
    from microblog_rt.push.edge import Edge


class HeldPoll(Stream):
    """A long poll whose response waits."""

    __slots__ = ("__weakref__", "_address", "_connection", "_edge", "_over", "_watch")

    def __init__(self, edge: Edge, connection: Connection, reader: Reader, query: Query, address: str) -> None:
        super().__init__(edge.feed.reads, reader, query.since, query.names)
        self._edge = edge
        self._connection = connection
        self._address = address  # what its limit counts
        # With it, the next long poll of this client needs no read.
        self._watch = edge.feed.watch(self)
        self._over = asyncio.get_running_loop().time() + (query.wait or 0)

    def take(self, found: list[Notification]) -> None:
        if found or asyncio.get_running_loop().time() >= self._over:
            self._respond(found)

    def answer(self, page: Page | None) -> None:
        if page is None:
            self._watch.refuse(self.reader)
        elif not self.names:
            self._watch.learn(self.reader, self.cursor, page)
        super().answer(page)

    def end(self, error: Exception) -> None:
        if isinstance(error, Draining):
            self._respond([])
        else:
            self._leave()
            self._connection.refuse(error)

    def abandon(self) -> None:
        """The client disconnected."""
        self._leave()

    def check_deadline(self, now: float) -> None:
        """Answer if the time is over; read if the session may have expired."""
        if now >= self._over and self.started:
            self._respond([])
        elif now >= self.expires:
            self.expire()

    def _respond(self, found: list[Notification]) -> None:
        self._leave()
        self._connection.respond_with(counted("long_poll", found), polled=False)

    def _leave(self) -> None:
        self._edge.feed.leave(self)
        self._edge.admission.tabs.close(self.user_id, self._address, metrics.LONG_POLLS)

"""Deliveries: posts are added to the counts of their authors' followers, some followers at a time.

A post is committed first, by itself, whatever the number of followers. Its delivery follows in short transactions, so
that no other writer waits long. Each of them notes what it has delivered, and the count includes what is delivered
and nothing else: it is exact after every transaction. Posts of one author that arrive during a delivery are delivered
together by the next one. What a process leaves undone is found in the database by any process.

See also: ``models.Follow``, ``storage/posts.py``.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial

from microblog_rt.errors import Unavailable
from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.storage import Storage, posts
from microblog_rt.storage.counters import UNREAD_POSTS

log = logging.getLogger(__name__)

FOLLOWERS_AT_ONCE = 500  # in one transaction, during which other writers wait on SQLite
LATE = 10.0  # seconds; a post that is not delivered by then may be one of a process that has ended


class Deliveries:
    """The deliveries of this process."""

    def __init__(self, storage: Storage, mailboxes: Mailboxes) -> None:
        self._storage = storage
        self._mailboxes = mailboxes
        self._requested: dict[int, int] = {}  # the newest post, by author
        self._wake = asyncio.Event()

    def request(self, author_id: int, post_id: int) -> None:
        """Have ``run`` deliver the author's posts up to ``post_id``, which is committed."""
        self._requested[author_id] = max(post_id, self._requested.get(author_id, 0))
        self._wake.set()

    async def run(self, every: float) -> None:
        """Deliver what is requested, and every ``every`` seconds what other processes have left, forever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._wake.wait()
            try:
                await (self._deliver_requested() if self._wake.is_set() else self.deliver_all(older_than=LATE))
            except Unavailable:
                await asyncio.sleep(every)  # storage has logged it
            except Exception:
                log.exception("delivery failed; it will be tried again")
                await asyncio.sleep(every)

    async def deliver_all(self, older_than: float = 0) -> None:
        """Deliver every post older than ``older_than`` seconds that is not delivered. Raises Unavailable."""
        async with self._storage.reading() as reading:
            found = await posts.undelivered(reading, older_than)
        for author_id, post_id in found.items():
            await self._deliver(author_id, post_id)

    async def _deliver_requested(self) -> None:
        self._wake.clear()
        while self._requested:
            author_id = next(iter(self._requested))
            await self._deliver(author_id, self._requested.pop(author_id))

    async def _deliver(self, author_id: int, post_id: int) -> None:
        after = 0
        while True:
            async with self._storage.reading() as reading:
                some = await posts.behind(reading, author_id, post_id, after, FOLLOWERS_AT_ONCE)
            if not some:
                break
            await self._mailboxes.change(some, partial(deliver, author_id, post_id, some))
            after = some[-1]
        await self._storage.write(lambda tx: posts.set_all_delivered(tx, author_id, post_id))


def deliver(author_id: int, post_id: int, follower_ids: Sequence[int], change: Change) -> None:
    """Add the author's posts up to ``post_id`` to the counts of these followers, whose mailboxes ``change`` has."""
    change.count_each(UNREAD_POSTS, posts.due(author_id, post_id))
    posts.set_delivered(change.tx, author_id, post_id, follower_ids)

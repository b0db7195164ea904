"""Notifications: the latest state of one name for one user; set, delete, and publish many.

See also: ``mailboxes.py``, which stores and signals them.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from math import ceil
from time import monotonic_ns
from typing import Any, NamedTuple

from microblog_rt import metrics
from microblog_rt.errors import Invalid, NotFound, Refused, TooMany
from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.models import NOTIFICATION_NAME_LENGTH
from microblog_rt.protocol import Notification
from microblog_rt.settings import Limit
from microblog_rt.storage import Storage, idempotency, notifications
from microblog_rt.storage.idempotency import Write

DATA_LIMIT = 4096  # bytes of JSON
RESERVED = "unread_"
DELETED = "null"
AT_ONCE = 8  # changes of a batch
REMEMBERED = 10_000  # publishers, before those with their whole limit are forgotten


class Publication(NamedTuple):
    """A notification to be published to a user."""

    user_id: int
    name: str
    data: Any


class Notifications:
    """The service that applications call to notify a user."""

    def __init__(self, mailboxes: Mailboxes, storage: Storage, limit: Limit | None = None) -> None:
        """``limit``: of the notifications that each publisher may publish."""
        self._mailboxes = mailboxes
        self._storage = storage
        self._limit = None if limit is None else PublishLimit(limit)

    def count(self, publisher_id: int, notifications: int) -> None:
        """Count ``notifications`` that a publisher is about to publish or to delete. Raises TooMany over the limit."""
        if self._limit is not None:
            self._limit.count(publisher_id, notifications)

    async def add_notification(self, user_id: int, name: str, data: Any) -> Notification:
        """Replace the user's notification ``name``; ``data`` is any JSON value.

        Returns the notification after the commit. Raises NotFound for an unknown user, BadRequest for a name or data
        that cannot be stored, Unavailable.
        """

        def work(change: Change) -> Notification:
            return change.set(user_id, name, data)

        return await self._mailboxes.change(user_id, work)

    async def publish(self, publication: Publication, write: Write | None = None) -> Notification:
        """Replace a notification for another program, once for each ``write``.

        Raises Invalid for a name or data that is not accepted, NotFound, KeyReused, Unavailable.
        """
        check(publication.name, publication.data)
        (published,) = await self._publish([publication], write)
        return published

    async def publish_all(
        self, publications: Sequence[Publication], write: Write | None = None
    ) -> list[Notification | Refused]:
        """Publish all that is accepted, those of one user in order and in one change; the result of each.

        A repeated ``write`` publishes what was refused before, and returns the first results of the others. Raises
        KeyReused, Unavailable.
        """
        if write is not None:
            await self._storage.write(partial(_claim, write))
        of_user: dict[int, list[int]] = {}
        results: list[Notification | Refused] = [Refused()] * len(publications)
        for place, each in enumerate(publications):
            try:
                check(each.name, each.data)
            except Refused as error:
                results[place] = error
            else:
                of_user.setdefault(each.user_id, []).append(place)
        free = asyncio.Semaphore(AT_ONCE)

        async def publish(user_id: int, places: list[int]) -> None:
            async with free:
                found = await self._results([publications[place] for place in places], _part(write, user_id))
            for place, result in zip(places, found, strict=True):
                results[place] = result

        await asyncio.gather(*(publish(*each) for each in of_user.items()))
        return results

    async def delete(self, user_id: int, name: str, write: Write | None = None) -> Notification:
        """Replace the notification's data by null, which says that there is none any more; once for each ``write``.

        Raises Invalid for a name of the application, NotFound if there has never been one, KeyReused, Unavailable.
        """
        check(name, None)

        def delete(change: Change) -> list[Notification]:
            current = notifications.latest(change.tx, user_id, name)
            if current is None:
                raise NotFound("unknown_notification", name=name)
            return [current if current.payload_json == DELETED else change.set(user_id, name, None)]

        work = partial(_once, write, delete)
        (deleted,) = await self._mailboxes.change(user_id, work)
        return deleted

    async def _results(
        self, publications: Sequence[Publication], write: Write | None
    ) -> Sequence[Notification | Refused]:
        try:
            return await self._publish(publications, write)
        except Refused as error:
            return [error] * len(publications)

    async def _publish(self, publications: Sequence[Publication], write: Write | None) -> list[Notification]:
        """Publish to one user in one change."""

        def publish(change: Change) -> list[Notification]:
            return [change.set(*each) for each in publications]

        return await self._mailboxes.change(publications[0].user_id, partial(_once, write, publish))


class PublishLimit:
    """A limit of what each publisher may publish at once, which returns evenly over the time of the limit.

    Counted by this process, since a row for each notification would cost as much as the notification.
    """

    def __init__(self, limit: Limit, clock: Callable[[], int] = monotonic_ns) -> None:
        self._window = limit.seconds * 10**9
        self._each = self._window // limit.times
        self._clock = clock
        self._free_at: dict[int, int] = {}  # by publisher: when the whole limit is available again

    def count(self, publisher_id: int, notifications: int) -> None:
        """Count ``notifications``. Raises TooMany, and counts nothing, if they are over what is left.

        More than the limit are accepted when the whole limit is available; the next ones then wait for longer.
        """
        now = self._clock()
        free_at = max(now, self._free_at.get(publisher_id, now))
        cost = notifications * self._each
        wait = free_at + min(cost, self._window) - now - self._window
        if wait > 0:
            metrics.limit_hit("publish")
            raise TooMany(ceil(wait / 10**9))
        if len(self._free_at) >= REMEMBERED:
            self._free_at = {each: until for each, until in self._free_at.items() if until > now}
        self._free_at[publisher_id] = free_at + cost


def check(name: str, data: Any) -> None:
    """Raise Invalid for a name or data that another program may not publish."""
    if not 1 <= len(name) <= NOTIFICATION_NAME_LENGTH:
        raise Invalid("key", "notification_name_length", limit=NOTIFICATION_NAME_LENGTH)
    if name.startswith(RESERVED):
        raise Invalid("key", "notification_name_reserved")
    length = len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
    if length > DATA_LIMIT:
        raise Invalid("data", "notification_data_too_long", length=length, limit=DATA_LIMIT)


def _once(write: Write | None, work: Any, change: Change) -> list[Notification]:
    return change.once(write, partial(work, change))


def _claim(write: Write, tx: Any) -> None:
    idempotency.claim(tx, write)


def _part(write: Write | None, user_id: int) -> Write | None:
    """The part of a write that is the change of one user."""
    return write and write._replace(key=sha256(f"{write.key}\0{user_id}".encode()).hexdigest())

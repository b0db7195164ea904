"""Private messages: send one, mark as read what was shown, a page of the inbox.

Not here: forms and pages (``web/messages.py``), SQL (``storage/messages.py``).
"""

import hashlib
from datetime import datetime
from typing import NamedTuple

from microblog_rt import metrics
from microblog_rt.errors import N_, Invalid
from microblog_rt.models import MESSAGE_LENGTH, User
from microblog_rt.notifications import Notifications, follow_up, replace
from microblog_rt.protocol import UNREAD_MESSAGE_COUNT, Notification
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, Transaction, clock, limits
from microblog_rt.storage import messages as rows
from microblog_rt.storage import notifications as told


class Post(NamedTuple):
    """A received message as a page shows it."""

    author: User
    body: str
    timestamp: datetime
    unread: bool


class Messages:
    """The services; each is one short transaction that locks the recipient's mailbox first."""

    def __init__(self, storage: Storage, notifications: Notifications, settings: Settings) -> None:
        self._storage = storage
        self._notifications = notifications
        self._limit = settings.send_limit

    async def send_message(
        self, sender_id: int, recipient_id: int, body: str, nonce: str = "", program_key: str = ""
    ) -> bool:
        """Send ``body`` (1 to 140 characters when stripped); whether it was new.

        The same text to the same recipient under the same ``nonce`` of one sender is sent once. A ``program_key``
        stands for one message of its sender for ever: raises KeyReused for any other; the nonce is then not looked
        at. Empty ones are none. Raises Invalid for the body, NotFound for the recipient, TooMany for a new message.
        """
        body = _checked(body)
        key = _idempotency_key(recipient_id, body, nonce, program_key)
        return await self._storage.finish(self._send(sender_id, recipient_id, body, key))

    async def _send(self, sender_id: int, recipient_id: int, body: str, key: str | None) -> bool:
        try:
            async with self._storage.transaction() as tx:
                tick = await clock.tick(tx, recipient_id, unread=1)
                await rows.add(
                    tx,
                    sender_id=sender_id,
                    recipient_id=recipient_id,
                    body=body,
                    timestamp=tick.clock,
                    idempotency_key=key,
                )
                await limits.take(tx, f"send:{sender_id}", self._limit)
                count = str(tick.unread_message_count)
                notification = await replace(tx, recipient_id, UNREAD_MESSAGE_COUNT, count, tick.clock)
                signal = follow_up(recipient_id, tick, notification)
                await self._notifications.stage(tx, signal)
        except rows.AlreadySent:
            return False
        metrics.SENDS.count()
        await self._notifications.tell(signal)
        return True

    async def mark_read(self, user_id: int, up_to: int | None = None) -> Notification:
        """Mark everything received up to the cursor ``up_to`` as read (None: all there is); the count's notification.

        A mark that is not newer than the one that stands changes nothing and tells nobody.
        """
        return await self._storage.finish(self._mark(user_id, up_to))

    async def _mark(self, user_id: int, up_to: int | None) -> Notification:
        async with self._storage.transaction() as tx:
            reading = await clock.tick_to_mark(tx, user_id, up_to)
            if reading is None:
                return await _standing_count(tx, user_id)
            count = str(await rows.recount(tx, user_id))
            notification = await replace(tx, user_id, UNREAD_MESSAGE_COUNT, count, reading.clock)
            signal = follow_up(user_id, reading, notification)
            await self._notifications.stage(tx, signal)
        await self._notifications.tell(signal)
        return notification

    async def inbox(self, user_id: int, page: int, size: int) -> tuple[list[Post], bool]:
        """The ``page``-th ``size`` received messages (from 1), newest first; and whether there are older ones."""
        async with self._storage.reading() as reading:
            found = await rows.inbox(reading, user_id, (page - 1) * size, size + 1)
        posts = [Post(each.author, each.body, each.timestamp, unread) for each, unread in found[:size]]
        return posts, len(found) > size


async def _standing_count(tx: Transaction, user_id: int) -> Notification:
    count, reading, timestamp = await told.standing(tx, user_id, UNREAD_MESSAGE_COUNT)
    return Notification(UNREAD_MESSAGE_COUNT, str(count), reading if timestamp is None else timestamp)


def _checked(body: str) -> str:
    body = body.replace("\r\n", "\n").replace("\0", "").strip()
    if not any(each.isprintable() and not each.isspace() for each in body):
        raise Invalid("message", N_("Write something first."))
    if len(body) > MESSAGE_LENGTH:
        raise Invalid(
            "message",
            N_("This has %(length)s characters; at most %(limit)s are allowed."),
            length=len(body),
            limit=MESSAGE_LENGTH,
        )
    return body


def _idempotency_key(recipient_id: int, body: str, nonce: str, program_key: str) -> str | None:
    if program_key:
        return hashlib.sha256(f"header\0{program_key}".encode()).hexdigest()
    if nonce:
        return hashlib.sha256(f"{recipient_id}\0{nonce}\0{body}".encode()).hexdigest()
    return None

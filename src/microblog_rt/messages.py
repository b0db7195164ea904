"""Private messages: send one, mark as read what was shown, a page of the inbox."""

import hashlib
from typing import NamedTuple

from microblog_rt import metrics, text
from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.models import User
from microblog_rt.protocol import FURTHEST, Notification
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, limits, messages, notifications
from microblog_rt.storage.counters import UNREAD_MESSAGES


class Post(NamedTuple):
    """A received message as a page shows it."""

    author: User
    body: str
    timestamp: int
    unread: bool

    @property
    def created(self) -> int:
        """When the message was sent."""
        return self.timestamp


class Messages:
    """Sends, marks and lists messages."""

    def __init__(self, storage: Storage, mailboxes: Mailboxes, settings: Settings) -> None:
        self._storage = storage
        self._mailboxes = mailboxes
        self._limit = settings.send_limit

    async def send_message(
        self, sender_id: int, recipient_id: int, body: str, nonce: str = "", program_key: str = ""
    ) -> bool:
        """Send ``body`` (1 to 140 characters, see ``text.checked``) and return whether it was new.

        The same text to the same recipient under the same ``nonce`` of one sender is sent once. A ``program_key``
        (``Idempotency-Key``) identifies one message of its sender for ever, and then the nonce is not used; it raises
        KeyReused for any other message. Empty ones are ignored. Raises Invalid for the body, NotFound for the
        recipient, TooMany over the limit, Unavailable.
        """
        body = text.checked(body)
        key = _idempotency_key(recipient_id, body, nonce, program_key)

        def work(change: Change) -> None:
            notification = change.count(recipient_id, UNREAD_MESSAGES, 1)
            messages.add(
                change.tx,
                sender_id=sender_id,
                recipient_id=recipient_id,
                body=body,
                timestamp=notification.timestamp,
                idempotency_key=key,
            )
            limits.take(change.tx, f"send:{sender_id}", self._limit)
            change.after_commit.append(metrics.SENDS.count)

        try:
            with limits.reported():
                await self._mailboxes.change(recipient_id, work)
        except messages.AlreadySent:
            return False
        return True

    async def mark_read(self, user_id: int, up_to: int | None = None) -> Notification:
        """Mark everything received up to the cursor ``up_to`` as read (None: everything); the count's notification.

        A mark that is not newer than the current one changes nothing and signals nothing.
        """

        def work(change: Change) -> Notification:
            marked = change.mark_read(user_id, UNREAD_MESSAGES, FURTHEST if up_to is None else up_to)
            return marked or notifications.current_count(change.tx, user_id, UNREAD_MESSAGES)

        return await self._mailboxes.change(user_id, work)

    async def inbox(self, user_id: int, page: int, size: int) -> tuple[list[Post], bool]:
        """Page number ``page`` (from 1) of the received messages, newest first, and whether there are older ones."""
        async with self._storage.reading() as reading:
            found = await messages.inbox(reading, user_id, (page - 1) * size, size + 1)
        posts = [Post(each.author, each.body, each.timestamp, unread) for each, unread in found[:size]]
        return posts, len(found) > size


def _idempotency_key(recipient_id: int, body: str, nonce: str, program_key: str) -> str | None:
    if program_key:
        return hashlib.sha256(f"header\0{program_key}".encode()).hexdigest()
    if nonce:
        return hashlib.sha256(f"{recipient_id}\0{nonce}\0{body}".encode()).hexdigest()
    return None

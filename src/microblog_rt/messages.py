"""Private messages: send one, mark as read what was shown, a page of the inbox, withdraw."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from microblog_rt import text
from microblog_rt.errors import KeyReused
from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.models import User
from microblog_rt.protocol import FURTHEST, Notification
from microblog_rt.settings import Settings
from microblog_rt.storage import Reading, Storage, limits, messages, notifications
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.storage.idempotency import Write
from microblog_rt.storage.pages import Page
from microblog_rt.storage.send import Outgoing, SessionUse

WITHDRAWN_AT_ONCE = 500  # in one transaction, during which other writers wait on SQLite


class Post(NamedTuple):
    """A received message as a page shows it: ``created`` is the time, ``timestamp`` the cursor."""

    author: User
    body: str
    timestamp: int
    created: int
    unread: bool


class SentMessage(NamedTuple):
    """A message as its sender gets it back."""

    recipient: str
    body: str
    timestamp: int


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
        (``Idempotency-Key``) identifies one message of its sender forever, and then the nonce is not used; it raises
        KeyReused for any other message. Empty ones are ignored. Raises Invalid for the body and a disabled recipient,
        NotFound for an unknown one, TooMany over the limit, Unavailable. A message to oneself is read already.
        """
        return await self._send(sender_id, recipient_id, body, nonce, program_key) is not None

    async def send_to(self, sender_id: int, username: str, body: str, nonce: str, program_key: str) -> str | None:
        """The same to the user of that name, in any case; return the name as it is written, None if not new."""
        return await self._send(sender_id, username, body, nonce, program_key)

    async def send_once(self, sender_id: int, username: str, body: str, program_key: str = "") -> SentMessage:
        """The same; return the message, the first one if it was sent already under ``program_key``."""
        outgoing = Outgoing(sender_id, username, text.checked(body), "", program_key, self._limit)
        try:
            with limits.reported():
                sent = await self._mailboxes.send(outgoing)
        except messages.AlreadySent:
            async with self._storage.reading() as reading:
                found = await messages.sent_under(reading, sender_id, outgoing.hashed_program_key or "")
            if found is None:
                raise KeyReused from None  # it was withdrawn at this moment
            return SentMessage(*found)
        return SentMessage(sent.recipient, outgoing.body, sent.tick.clock)

    async def _send(self, sender_id: int, recipient: int | str, body: str, nonce: str, program_key: str) -> str | None:
        outgoing = Outgoing(sender_id, recipient, text.checked(body), nonce, program_key, self._limit)
        try:
            with limits.reported():
                return (await self._mailboxes.send(outgoing)).recipient
        except messages.AlreadySent:
            return None

    async def attempt(self, sender_id: int, username: str, body: str, nonce: str, session: SessionUse) -> str | None:
        """As ``send_to`` in that session, without counting a refusal in the metrics.

        For a caller that lets another way to send report what is refused. Raises SignedOut as well.
        """
        outgoing = Outgoing(sender_id, username, text.checked(body), nonce, "", self._limit, session)
        try:
            return (await self._mailboxes.send(outgoing)).recipient
        except messages.AlreadySent:
            return None

    async def mark_read(
        self, user_id: int, *, first: int = 0, last: int = FURTHEST, write: Write | None = None
    ) -> Notification:
        """Mark what was received from the cursor ``first`` to ``last`` as read, by default everything.

        Returns the count's notification. A mark of what is read already changes nothing and signals nothing, nor does a
        ``write`` that was done before. Raises KeyReused.
        """

        def mark(change: Change) -> list[Notification]:
            marked = change.mark_read(user_id, UNREAD_MESSAGES, first, last)
            return [marked or notifications.current_count(change.tx, user_id, UNREAD_MESSAGES)]

        (count,) = await self._mailboxes.change(user_id, lambda change: change.once(write, partial(mark, change)))
        return count

    async def inbox(self, user_id: int, size: int, before: int | None = None, after: int | None = None) -> Page[Post]:
        """Up to ``size`` received messages, newest first: those next to the cursor ``before`` or ``after``, if any."""
        async with self._storage.reading() as reading:
            page = await messages.inbox(reading, user_id, size, before, after)
        posts = [
            Post(each.author, each.body, each.timestamp, each.created or each.timestamp, unread)
            for each, unread in page.rows
        ]
        return Page(posts, page.previous, page.next)

    async def withdraw(self, sender_id: int) -> int:
        """Delete everything that a user has sent, from every mailbox; return the number of messages."""
        return await self._delete(partial(messages.sent_by, sender_id=sender_id, count=WITHDRAWN_AT_ONCE))

    async def delete_of(self, user_id: int) -> int:
        """Delete everything that a user has sent and received; return the number of messages."""
        return await self._delete(partial(messages.of_user, user_id=user_id, count=WITHDRAWN_AT_ONCE))

    async def _delete(self, find: Callable[[Reading], Awaitable[Sequence[tuple[int, int]]]]) -> int:
        """Delete the messages that ``find`` returns, with their recipients, until it finds none."""
        deleted = 0
        while True:
            async with self._storage.reading() as reading:
                found = await find(reading)
            if not found:
                return deleted
            recipients = {recipient_id for _, recipient_id in found}
            await self._mailboxes.change(recipients, partial(_withdraw, [each for each, _ in found]))
            deleted += len(found)


def _withdraw(message_ids: Sequence[int], change: Change) -> None:
    change.delete_items(UNREAD_MESSAGES, message_ids)

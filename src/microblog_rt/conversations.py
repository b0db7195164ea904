"""Conversations: a user's list of them, the exchange with one person, and marks of what was shown of it."""

from functools import partial
from typing import Any, NamedTuple

from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.protocol import FURTHEST, Notification
from microblog_rt.storage import Storage, conversations, notifications
from microblog_rt.storage.conversations import Moved
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.storage.pages import Page


class Conversation(NamedTuple):
    """A conversation as the list shows it, with its last message.

    ``key`` orders the list. ``own``: the user has sent the last message. ``unread`` is counted up to 100.
    """

    key: int
    username: str
    body: str
    created: int
    own: bool
    unread: int


class Line(NamedTuple):
    """A message of an exchange. ``key`` orders it; ``timestamp`` is a reading of its recipient's clock."""

    key: int
    body: str
    timestamp: int
    created: int
    own: bool
    unread: bool


class Unread(NamedTuple):
    """How many messages of an exchange are unread, counted up to 100, and the key of the first."""

    number: int
    first: int | None


class Newest(NamedTuple):
    """The keys of the last message received and the last one sent in an exchange; 0 without one."""

    received: int
    sent: int


class Conversations:
    """Lists conversations and their messages, and marks these as read or unread."""

    def __init__(self, storage: Storage, mailboxes: Mailboxes) -> None:
        self._storage = storage
        self._mailboxes = mailboxes

    async def of_user(
        self, user_id: int, size: int, before: int | None = None, after: int | None = None
    ) -> Page[Conversation]:
        """Up to ``size`` conversations, that with the newest message first: those next to the key, if any."""
        async with self._storage.reading() as reading:
            page = await conversations.of_user(reading, user_id, size, before, after)
        return Page([Conversation(*each) for each in page.rows], page.previous, page.next)

    async def exchange(
        self, user_id: int, other_id: int, size: int, before: int | None = None, after: int | None = None
    ) -> Page[Line]:
        """Up to ``size`` messages of the two users, oldest first: those next to the key; without one the newest."""
        async with self._storage.reading() as reading:
            page = await conversations.exchange(reading, user_id, other_id, size, before, after)
        return _lines(page, user_id)

    async def news(self, user_id: int, other_id: int, size: int, newest: Newest) -> Page[Line]:
        """Up to ``size`` messages of the two users that are newer than ``newest``, oldest first."""
        async with self._storage.reading() as reading:
            page = await conversations.news(reading, user_id, other_id, size, *newest)
        return _lines(page, user_id)

    async def newest(self, user_id: int, other_id: int) -> Newest:
        """The last messages of the two users. Ask before reading the page that they belong to."""
        async with self._storage.reading() as reading:
            return Newest(*await conversations.newest(reading, user_id, other_id))

    async def unread(self, user_id: int, other_id: int) -> Unread:
        """What the user has not read from the other."""
        async with self._storage.reading() as reading:
            return Unread(*await conversations.unread(reading, user_id, other_id))

    async def mark_read(self, user_id: int, other_id: int, first: int = 0, last: int = FURTHEST) -> Notification:
        """Mark what was received from the other, from the cursor ``first`` to ``last``, as read.

        Return the count's notification. Messages of other users stay as they are.
        """
        work = partial(conversations.mark_read, user_id=user_id, other_id=other_id, first=first, last=last)
        return await self._mailboxes.change(user_id, lambda change: _marked(change, user_id, work(change.tx)))

    async def mark_unread(self, user_id: int, other_id: int, first: int) -> Notification:
        """Mark what was received from the other, from the cursor ``first`` on, as unread.

        Return the count's notification. Messages of other users stay as they are; a message to oneself stays read.
        """
        first = max(first, 1)
        since: int | None = first - 1
        while since is not None:
            since, notification = await self._mailboxes.change(
                user_id, partial(_mark_unread, user_id, other_id, first, since)
            )
        return notification


def _lines(page: Page[Any], user_id: int) -> Page[Line]:
    lines = [
        Line(each.id, each.body, each.timestamp, each.created, each.sender_id == user_id, each.unread)
        for each in page.rows
    ]
    return Page(lines, page.previous, page.next)


def _mark_unread(
    user_id: int, other_id: int, first: int, since: int, change: Change
) -> tuple[int | None, Notification]:
    """One transaction of several, if many messages of others must be marked singly: where the next one begins."""
    following = conversations.set_aside(change.tx, user_id, other_id, since)
    if following is None:  # other marks may have been made between the transactions
        following = conversations.set_aside(change.tx, user_id, other_id, first - 1)
    moved = conversations.mark_unread(change.tx, user_id, other_id, first) if following is None else None
    return following, _marked(change, user_id, moved)


def _marked(change: Change, user_id: int, moved: Moved | None) -> Notification:
    if moved is None:
        return notifications.current_count(change.tx, user_id, UNREAD_MESSAGES)
    return change.move_mark(user_id, UNREAD_MESSAGES, *moved)

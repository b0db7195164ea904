"""Delete an account, with everything that its user has sent, posted and received."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from microblog_rt import security_log
from microblog_rt.accounts import Accounts
from microblog_rt.errors import NotFound
from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.messages import Messages
from microblog_rt.storage import Reading, Storage, posts, removal
from microblog_rt.storage.counters import UNREAD_MENTIONS, UNREAD_POSTS

T = TypeVar("T")
Find = Callable[[Reading, int], Awaitable[Sequence[T]]]


class Removal:
    """Deletes accounts."""

    def __init__(self, storage: Storage, accounts: Accounts, messages: Messages, mailboxes: Mailboxes) -> None:
        self._storage = storage
        self._accounts = accounts
        self._messages = messages
        self._mailboxes = mailboxes

    async def delete(self, username: str) -> None:
        """Delete a user: every session, token and link, then messages, follows and posts, then the account itself.

        Open streams end at once. Each transaction keeps every counter exact, and all but the last change at most
        ``removal.AT_ONCE`` rows of a kind. If it is interrupted, the account stays disabled, and another call deletes
        the rest. Raises NotFound, Unavailable.
        """
        user = await self._accounts.known(username)
        await self._accounts.disable(user.username)

        def work(change: Change) -> bool:
            change.tick(user.id)
            return removal.delete_user(change.tx, user.id)

        try:
            await self._delete_shared(user.id)
            # A send, post or follow that had begun before the account was disabled may have been committed meanwhile.
            while not await self._mailboxes.change(user.id, work):
                await self._delete_shared(user.id)
        except NotFound:
            return  # another call was first
        security_log.note("account_deleted", user=user.username, user_id=user.id)

    async def _delete_shared(self, user_id: int) -> None:
        """Delete the rows that change what other users see."""
        await self._messages.delete_of(user_id)
        while follower_ids := await self._found(removal.followers, user_id):
            await self._mailboxes.change(follower_ids, partial(_end_follows, follower_ids, [user_id]))
        while followed_ids := await self._found(removal.followed, user_id):
            await self._mailboxes.change(user_id, partial(_end_follows, [user_id], followed_ids))
        await self._delete_mentions(removal.mentions_of, user_id)
        await self._delete_mentions(removal.mentions_by, user_id)
        while await self._storage.write(partial(removal.delete_posts, user_id=user_id)):
            await self._delete_mentions(removal.mentions_by, user_id)

    async def _delete_mentions(self, find: Find[tuple[int, int]], user_id: int) -> None:
        while found := await self._found(find, user_id):
            mention_ids, recipients = [each for each, _ in found], {recipient_id for _, recipient_id in found}
            await self._mailboxes.change(recipients, partial(_delete_mentions, mention_ids))

    async def _found(self, find: Find[T], user_id: int) -> Sequence[T]:
        async with self._storage.reading() as reading:
            return await find(reading, user_id)


def _end_follows(follower_ids: Sequence[int], followed_ids: Sequence[int], change: Change) -> None:
    """Delete the follows of these users by those, whose mailboxes ``change`` has; their posts are not counted then."""
    change.count_each(UNREAD_POSTS, -posts.counted(followed_ids))
    removal.delete_follows(change.tx, follower_ids, followed_ids)


def _delete_mentions(mention_ids: Sequence[int], change: Change) -> None:
    change.delete_items(UNREAD_MENTIONS, mention_ids)

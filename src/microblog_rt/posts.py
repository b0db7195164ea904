"""Posts, follows and mentions: post, follow, mark as seen what was shown, and the pages.

See also: ``deliveries.py``, which adds posts to the counts of followers.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import NamedTuple

from microblog_rt import names, spans, text
from microblog_rt.deliveries import Deliveries, deliver
from microblog_rt.errors import Invalid, NotFound, SignedOut
from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.models import Post, User
from microblog_rt.protocol import FURTHEST, Notification
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, accounts, limits, notifications, posts
from microblog_rt.storage.counters import UNREAD_MENTIONS, UNREAD_POSTS, Counter
from microblog_rt.storage.pages import Page
from microblog_rt.storage.posts import Profile


class Mentioned(NamedTuple):
    """A post as the page of mentions shows it; ``timestamp`` is the cursor."""

    post: Post
    timestamp: int
    unread: bool


class Posts:
    """Posts, follows, and the counts of unseen posts and unread mentions."""

    def __init__(self, storage: Storage, mailboxes: Mailboxes, deliveries: Deliveries, settings: Settings) -> None:
        self._storage = storage
        self._mailboxes = mailboxes
        self._deliveries = deliveries
        self._limit = settings.send_limit

    async def post(self, author_id: int, body: str, nonce: str = "", reply_to_id: int | None = None) -> bool:
        """Post ``body`` (1 to 140 characters, see ``text.checked``) and return whether it was new.

        The same text under the same ``nonce`` of one author is posted once; an empty nonce is ignored. The users that
        it names, and the author of the post that it replies to, get a mention. Its delivery to followers begins after
        the commit. Disabled accounts get no mention. Raises Invalid for the body, SignedOut for a disabled author,
        NotFound for an unknown ``reply_to_id``, TooMany, Unavailable.
        """
        body = text.checked(body, "post")
        mentioned = await self._mentioned(body, reply_to_id) - {author_id}
        key = hashlib.sha256(f"{reply_to_id}\0{nonce}\0{body}".encode()).hexdigest() if nonce else None

        def work(change: Change) -> int:
            tx = change.tx
            posts.take_turn(tx)
            disabled = accounts.disabled(tx, {author_id, *mentioned})
            if disabled.get(author_id, True):
                raise SignedOut
            if reply_to_id is not None and not posts.is_stored(tx, reply_to_id):
                raise NotFound("unknown_post")
            post_id = posts.add(tx, author_id, body, key, reply_to_id)
            limits.take(tx, f"post:{author_id}", self._limit)
            for user_id in sorted(each for each in mentioned if not disabled.get(each, True)):
                notification = change.count(user_id, UNREAD_MENTIONS, 1)
                posts.add_mention(tx, post_id, user_id, notification.timestamp)
            return post_id

        try:
            with limits.reported():
                post_id = await self._mailboxes.change(mentioned, work)
        except posts.AlreadyPosted:
            return False
        self._deliveries.request(author_id, post_id)
        return True

    async def _mentioned(self, body: str, reply_to_id: int | None) -> set[int]:
        keys = {names.key(each.value) for each in spans.mentions(body)}
        async with self._storage.reading() as reading:
            found = set((await accounts.ids(reading, keys)).values()) if keys else set()
            if reply_to_id is not None:
                found.add(_known(await posts.post(reading, reply_to_id)).user_id)
        return found

    async def follow(self, follower_id: int, user: User) -> bool:
        """Follow ``user`` and return whether that is new.

        The posts since the follower's last look at the home page, which now shows them, are counted. Raises Invalid
        for oneself and a disabled account, NotFound for one that was deleted, SignedOut for a disabled follower.
        """
        if follower_id == user.id:
            raise Invalid("username", "follow_oneself")

        def work(change: Change) -> bool:
            posts.take_turn(change.tx)
            disabled = accounts.disabled(change.tx, {follower_id, user.id})
            if disabled.get(follower_id, True):
                raise SignedOut
            if user.id not in disabled:
                raise NotFound("unknown_user", name=user.username)
            if disabled[user.id]:
                raise Invalid("username", "account_disabled")
            new = posts.follow(change.tx, follower_id, user.id)
            if new:
                deliver(user.id, posts.newest_id(change.tx, user.id), [follower_id], change)
            return new

        return await self._mailboxes.change(follower_id, work)

    async def unfollow(self, follower_id: int, user: User) -> None:
        """Follow ``user`` no longer; posts that were not seen are not counted any more."""

        def work(change: Change) -> None:
            change.count_each(UNREAD_POSTS, -posts.counted([user.id]))
            posts.unfollow(change.tx, follower_id, user.id)

        await self._mailboxes.change(follower_id, work)

    async def home(self, reader_id: int, size: int, before: int | None = None, after: int | None = None) -> Page[Post]:
        """Up to ``size`` of the reader's and followed users' posts, newest first: next to ``before`` or ``after``."""
        async with self._storage.reading() as reading:
            return await posts.home(reading, reader_id, size, before, after)

    async def newest_unseen(self, reader_id: int, shown: Iterable[Post]) -> int | None:
        """The id up to which ``see`` is to mark when ``shown``, a first page of ``home``, was shown; None if it has."""
        newest = max((each.id for each in shown if each.user_id != reader_id), default=0)
        async with self._storage.reading() as reading:
            return newest if newest > await posts.seen_up_to(reading, reader_id) else None

    async def see(self, reader_id: int, up_to: int) -> Notification:
        """Mark the posts up to the id ``up_to``, the newest that a first page of ``home`` showed, as seen.

        Returns the count's notification.
        """
        return await self._mark(reader_id, UNREAD_POSTS, 0, up_to)

    async def mark_read(self, user_id: int, *, first: int = 0, last: int = FURTHEST) -> Notification:
        """Mark mentions from the cursor ``first`` to ``last`` as read, by default all; the count's notification."""
        return await self._mark(user_id, UNREAD_MENTIONS, first, last)

    async def _mark(self, user_id: int, counter: Counter, first: int, last: int) -> Notification:
        def work(change: Change) -> Notification:
            marked = change.mark_read(user_id, counter, first, last)
            return marked or notifications.current_count(change.tx, user_id, counter)

        return await self._mailboxes.change(user_id, work)

    async def explore(self, size: int, before: int | None = None, after: int | None = None) -> Page[Post]:
        """Up to ``size`` of all posts, as ``home``."""
        async with self._storage.reading() as reading:
            return await posts.explore(reading, size, before, after)

    async def by_author(
        self, author_id: int, size: int, before: int | None = None, after: int | None = None
    ) -> Page[Post]:
        """Up to ``size`` posts of a user, as ``home``."""
        async with self._storage.reading() as reading:
            return await posts.by_author(reading, author_id, size, before, after)

    async def replies(
        self, post_id: int, size: int, before: int | None = None, after: int | None = None
    ) -> tuple[Post, Page[Post]]:
        """A post, and up to ``size`` of its replies, as ``home``. Raises NotFound."""
        async with self._storage.reading() as reading:
            post = _known(await posts.post(reading, post_id))
            return post, await posts.replies(reading, post_id, size, before, after)

    async def mentions(
        self, user_id: int, size: int, before: int | None = None, after: int | None = None
    ) -> Page[Mentioned]:
        """Up to ``size`` mentions, newest first: those next to the cursor ``before`` or ``after``, if any."""
        async with self._storage.reading() as reading:
            page = await posts.mentions(reading, user_id, size, before, after)
        rows = [Mentioned(each.post, each.timestamp, unread) for each, unread in page.rows]
        return Page(rows, page.previous, page.next)

    async def profile(self, user_id: int, reader_id: int) -> Profile:
        """The numbers on the profile of ``user_id``, as ``reader_id`` sees it."""
        async with self._storage.reading() as reading:
            return await posts.profile(reading, user_id, reader_id)

    async def followed(self, reader_id: int, user_ids: Collection[int]) -> set[int]:
        """Those of ``user_ids`` that the reader follows."""
        async with self._storage.reading() as reading:
            return await posts.followed(reading, reader_id, user_ids)

    async def names_in(self, bodies: Collection[str]) -> dict[str, str]:
        """The names of the users that these texts mention, by the key of the name (``names.key``)."""
        keys = {names.key(each.value) for body in bodies for each in spans.mentions(body)}
        async with self._storage.reading() as reading:
            return await posts.names(reading, keys)


def _known(post: Post | None) -> Post:
    if post is None:
        raise NotFound("unknown_post")
    return post

"""Posts and follows in the database.

Posts are inserted one at a time, so their ids are in the order of commits: a page that begins at an id does not shift,
and no post appears behind the newest one that a page has shown. Follows take the same turn, so that each post is
either delivered by the follow or finds the follow when it is delivered.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, exists, func, join, literal, not_, select, true, update
from sqlalchemy.dialects.postgresql import insert  # rendered for SQLite too
from sqlalchemy.orm import aliased, joinedload

from microblog_rt.errors import KeyReused, Refused
from microblog_rt.models import Follow, Mailbox, Mention, Post, User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.storage import Reading, Transaction, postgres
from microblog_rt.storage.counters import UNREAD_MENTIONS
from microblog_rt.storage.mailboxes import padded
from microblog_rt.storage.pages import Page, page
from microblog_rt.storage.sql_time import NOW, Later

TURN = "posts"


class AlreadyPosted(Refused):
    """This post exists under its idempotency key; the transaction must be rolled back."""


class Profile(NamedTuple):
    """The numbers on a user's profile; whether the reader follows the user, and the user the reader."""

    followers: int
    following: int
    posts: int
    followed: bool
    follows_reader: bool


def take_turn(tx: Transaction) -> None:
    """Wait for the other posts and follows to commit; those that come later wait for this transaction.

    Lock mailboxes first.
    """
    if tx.dialect.name == postgres.NAME:
        postgres.lock(tx, TURN)  # SQLite's write lock covers the whole database


def add(tx: Transaction, author_id: int, body: str, key: str | None, reply_to_id: int | None) -> int:
    """Insert a post and return its id. Take the turn first. Raises AlreadyPosted, KeyReused for another post's key."""
    has_followers = exists().where(Follow.followed_id == author_id)
    row = insert(Post).from_select(
        ["user_id", "body", "created", "delivered", "idempotency_key", "reply_to_id"],
        select(
            literal(author_id, Post.user_id.type),
            literal(body, Post.body.type),
            NOW,
            not_(has_followers),
            literal(key, Post.idempotency_key.type),
            literal(reply_to_id, Post.user_id.type),
        ).where(true()),
    )
    row = row.on_conflict_do_nothing(index_elements=["user_id", "idempotency_key"])
    post_id: int | None = tx.execute(row.returning(Post.id)).scalar_one_or_none()
    if post_id is None:
        columns = select(Post.body, Post.reply_to_id).where(Post.user_id == author_id, Post.idempotency_key == key)
        raise AlreadyPosted if tuple(tx.execute(columns).one()) == (body, reply_to_id) else KeyReused
    return post_id


def is_stored(tx: Transaction, post_id: int) -> bool:
    """Whether there is such a post. Take the turn first: then none is deleted before the end of the transaction."""
    return tx.execute(select(Post.id).where(Post.id == post_id)).one_or_none() is not None


def add_mention(tx: Transaction, post_id: int, recipient_id: int, timestamp: int) -> None:
    """Insert a mention, stamped with a reading of the recipient's clock."""
    tx.execute(insert(Mention).values(post_id=post_id, recipient_id=recipient_id, timestamp=timestamp))


def newest_id(tx: Transaction, author_id: int) -> int:
    """The id of an author's newest post; 0 without one."""
    newest: int = tx.execute(select(func.coalesce(func.max(Post.id), 0)).where(Post.user_id == author_id)).scalar_one()
    return newest


# Delivery


async def undelivered(reading: Reading, older_than: float = 0) -> dict[int, int]:
    """The newest post that is not delivered, by author; only of posts older than ``older_than`` seconds."""
    old = Post.created <= NOW - round(older_than * MICROSECONDS)
    statement = select(Post.user_id, func.max(Post.id)).where(not_(Post.delivered), old).group_by(Post.user_id)
    return dict((await reading.execute(statement)).all())


async def behind(reading: Reading, author_id: int, post_id: int, after: int, count: int) -> Sequence[int]:
    """The next ``count`` followers after the id ``after`` that lack some of the author's posts up to ``post_id``."""
    statement = select(Follow.follower_id).where(
        Follow.followed_id == author_id, Follow.follower_id > after, Follow.delivered_id < post_id
    )
    return (await reading.execute(statement.order_by(Follow.follower_id).limit(count))).scalars().all()


def due(author_id: int, post_id: int) -> Any:
    """In a query of mailboxes: how many unseen posts a delivery of the author's posts up to ``post_id`` adds."""
    return _count_of([author_id], Post.id > Later(Mailbox.last_post_seen, Follow.delivered_id), Post.id <= post_id)


def counted(author_ids: Collection[int]) -> Any:
    """In a query of mailboxes: how many posts of these authors are in the count."""
    return _count_of(author_ids, Post.id > Mailbox.last_post_seen, Post.id <= Follow.delivered_id)


def _count_of(author_ids: Collection[int], *which: ColumnElement[bool]) -> Any:
    followed = and_(Follow.follower_id == Mailbox.user_id, Follow.followed_id.in_(padded(list(author_ids))))
    items = join(Follow, Post, Post.user_id == Follow.followed_id)
    return select(func.count()).select_from(items).where(followed, *which).correlate(Mailbox).scalar_subquery()


def set_delivered(tx: Transaction, author_id: int, post_id: int, follower_ids: Sequence[int]) -> None:
    """Note that these followers' counts have the author's posts up to ``post_id``."""
    these = and_(Follow.followed_id == author_id, Follow.follower_id.in_(padded(list(follower_ids))))
    tx.execute(update(Follow).where(these, Follow.delivered_id < post_id).values(delivered_id=post_id))


def set_all_delivered(tx: Transaction, author_id: int, post_id: int) -> None:
    """Note that the counts of all followers have the author's posts up to ``post_id``.

    In the turn, since a deletion of the author, or of an author of replies, may change these posts as well.
    """
    take_turn(tx)
    these = and_(Post.user_id == author_id, Post.id <= post_id, not_(Post.delivered))
    tx.execute(update(Post).where(these).values(delivered=True))


# Follows


def follow(tx: Transaction, follower_id: int, followed_id: int) -> bool:
    """Insert a follow to which no post is delivered yet; whether it is new."""
    row = insert(Follow).values(follower_id=follower_id, followed_id=followed_id, created=NOW, delivered_id=0)
    return tx.execute(row.on_conflict_do_nothing().returning(Follow.follower_id)).one_or_none() is not None


def unfollow(tx: Transaction, follower_id: int, followed_id: int) -> None:
    """Delete a follow, if there is one."""
    tx.execute(delete(Follow).where(Follow.follower_id == follower_id, Follow.followed_id == followed_id))


async def profile(reading: Reading, user_id: int, reader_id: int) -> Profile:
    """The numbers on the profile of ``user_id``, as ``reader_id`` sees it."""
    statement = select(
        select(func.count()).where(Follow.followed_id == user_id).scalar_subquery(),
        select(func.count()).where(Follow.follower_id == user_id).scalar_subquery(),
        select(func.count()).where(Post.user_id == user_id).scalar_subquery(),
        exists().where(Follow.follower_id == reader_id, Follow.followed_id == user_id),
        exists().where(Follow.follower_id == user_id, Follow.followed_id == reader_id),
    )
    return Profile(*(await reading.execute(statement)).one())


async def followed(reading: Reading, reader_id: int, user_ids: Collection[int]) -> set[int]:
    """Those of ``user_ids`` that the reader follows."""
    these = and_(Follow.follower_id == reader_id, Follow.followed_id.in_(user_ids))
    return set((await reading.execute(select(Follow.followed_id).where(these))).scalars())


# Pages: newest first, next to the post ``before`` or ``after``, if given; authors are loaded.


async def home(
    reading: Reading, reader_id: int, size: int, before: int | None = None, after: int | None = None
) -> Page[Post]:
    """A page of the reader's own posts and those of the users that the reader follows.

    The newest of each of them are looked up by index, so the cost does not grow with the number of posts.
    """
    bound = true() if before is None and after is None else Post.id < before if after is None else Post.id > after
    order = Post.id.desc() if after is None else Post.id.asc()
    of_followed = select(Follow.followed_id.label("id")).where(Follow.follower_id == reader_id)
    authors = of_followed.union_all(select(literal(reader_id))).subquery()
    candidate = aliased(Post)
    newest = select(Post.id).where(Post.user_id == authors.c.id, bound).order_by(order).limit(size + 1)
    some = join(authors, candidate, candidate.id.in_(newest.correlate(authors).scalar_subquery()))
    return await _page(reading, Post.id.in_(select(candidate.id).select_from(some)), size, before, after)


async def explore(reading: Reading, size: int, before: int | None = None, after: int | None = None) -> Page[Post]:
    """A page of everybody's posts."""
    return await _page(reading, true(), size, before, after)


async def by_author(
    reading: Reading, author_id: int, size: int, before: int | None = None, after: int | None = None
) -> Page[Post]:
    """A page of a user's posts."""
    return await _page(reading, Post.user_id == author_id, size, before, after)


async def replies(
    reading: Reading, post_id: int, size: int, before: int | None = None, after: int | None = None
) -> Page[Post]:
    """A page of the replies to a post."""
    return await _page(reading, Post.reply_to_id == post_id, size, before, after)


async def mentions(
    reading: Reading, user_id: int, size: int, before: int | None = None, after: int | None = None
) -> Page[Any]:
    """A page of the user's mentions with whether each is unread, next to the timestamps ``before`` or ``after``."""
    statement = (
        select(Mention, UNREAD_MENTIONS.is_unread)
        .join(Mailbox, Mailbox.user_id == Mention.recipient_id)
        .where(Mention.recipient_id == user_id)
        .options(joinedload(Mention.post, innerjoin=True).options(*LOADED))
    )
    return await page(reading, statement, Mention.timestamp, size, after, before, descending=True)


async def post(reading: Reading, post_id: int) -> Post | None:
    """A post with its author."""
    return (await reading.execute(select(Post).where(Post.id == post_id).options(*LOADED))).scalar_one_or_none()


async def seen_up_to(reading: Reading, user_id: int) -> int:
    """The id of the newest post that the user's home page has shown."""
    seen: int = (await reading.execute(select(Mailbox.last_post_seen).where(Mailbox.user_id == user_id))).scalar_one()
    return seen


async def names(reading: Reading, keys: Collection[str]) -> dict[str, str]:
    """The names of the users whose names have these keys, by key."""
    if not keys:
        return {}
    found = await reading.execute(select(User.username_key, User.username).where(User.username_key.in_(keys)))
    return dict(found.all())


LOADED = (
    joinedload(Post.author, innerjoin=True),
    joinedload(Post.reply_to).joinedload(Post.author),
)


async def _page(
    reading: Reading, which: ColumnElement[bool], size: int, before: int | None, after: int | None
) -> Page[Post]:
    # In the order shown, the newest first, older posts come after.
    statement = select(Post).where(which).options(*LOADED)
    return await page(reading, statement, Post.id, size, after, before, descending=True)

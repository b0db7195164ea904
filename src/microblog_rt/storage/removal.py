"""The end of an account: every row of a user, and the rows of others that depend on it.

The account is disabled first. Posts and follows check that in their turn (``posts.take_turn``), so none that names the
user begins once a deletion has had its turn; those that were before it are found and deleted.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Select, delete, exists, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute

from microblog_rt.models import (
    AccessToken,
    Follow,
    IdempotentWrite,
    Mailbox,
    Mention,
    Message,
    Notification,
    OneTimeLink,
    Post,
    Session,
    User,
    Webhook,
)
from microblog_rt.storage import Reading, Transaction, accounts, posts
from microblog_rt.storage.mailboxes import padded

AT_ONCE = 500  # rows in one transaction, during which other writers wait on SQLite

# The columns of rows that are deleted before, some at a time, since they change the counters of others.
SHARED = (
    Message.sender_id,
    Message.recipient_id,
    Follow.follower_id,
    Follow.followed_id,
    Mention.recipient_id,
    Post.user_id,
)
# The columns of a user's own rows, in the order in which they are deleted.
OWN: tuple[InstrumentedAttribute[int] | InstrumentedAttribute[int | None], ...] = (
    Notification.user_id,
    Session.user_id,
    AccessToken.user_id,
    OneTimeLink.user_id,
    IdempotentWrite.user_id,
    Webhook.user_id,
    Mailbox.user_id,
)


async def followers(reading: Reading, user_id: int) -> Sequence[int]:
    """The ids of some followers of a user."""
    return (await reading.scalars(select(Follow.follower_id).where(Follow.followed_id == user_id).limit(AT_ONCE))).all()


async def followed(reading: Reading, user_id: int) -> Sequence[int]:
    """The ids of some users that a user follows."""
    return (await reading.scalars(select(Follow.followed_id).where(Follow.follower_id == user_id).limit(AT_ONCE))).all()


def delete_follows(tx: Transaction, follower_ids: Collection[int], followed_ids: Collection[int]) -> None:
    """Delete the follows of these users by those."""
    by = Follow.follower_id.in_(padded(list(follower_ids)))
    tx.execute(delete(Follow).where(by, Follow.followed_id.in_(padded(list(followed_ids)))))


async def mentions_of(reading: Reading, user_id: int) -> Sequence[tuple[int, int]]:
    """The ids of some mentions of a user, each with its recipient."""
    return await _mentions(reading, Mention.recipient_id == user_id)


async def mentions_by(reading: Reading, user_id: int) -> Sequence[tuple[int, int]]:
    """The ids of some mentions in the posts that ``delete_posts`` deletes next, each with its recipient."""
    return await _mentions(reading, Mention.post_id.in_(_oldest_posts(user_id)))


async def _mentions(reading: Reading, which: ColumnElement[bool]) -> Sequence[tuple[int, int]]:
    found = await reading.execute(select(Mention.id, Mention.recipient_id).where(which).limit(AT_ONCE))
    return [(mention_id, recipient_id) for mention_id, recipient_id in found]


def delete_posts(tx: Transaction, user_id: int) -> bool:
    """Delete some posts of a user, or make some replies to them posts of their own; whether there may be more.

    Does neither, and returns False, while the user has followers or these posts have mentions: both are counted, and
    must be deleted before.
    """
    posts.take_turn(tx)
    some = tx.execute(_oldest_posts(user_id)).scalars().all()
    these = padded(list(some))
    counted = or_(exists().where(Follow.followed_id == user_id), exists().where(Mention.post_id.in_(these)))
    if not some or tx.execute(select(counted)).scalar_one():
        return False
    replies = select(Post.id).where(Post.reply_to_id.in_(these)).limit(AT_ONCE)
    if not tx.execute(update(Post).where(Post.id.in_(replies)).values(reply_to_id=None)).rowcount:
        tx.execute(delete(Post).where(Post.id.in_(these)))
    return True


def _oldest_posts(user_id: int) -> Select[int]:
    return select(Post.id).where(Post.user_id == user_id).order_by(Post.id).limit(AT_ONCE)


def delete_user(tx: Transaction, user_id: int) -> bool:
    """Delete a user, whose mailbox is locked; False if there are still shared rows, which must be deleted before.

    Call ``delete_posts`` before: posts and follows that begin after its turn are refused.
    """
    accounts.credentials(tx, user_id)  # waits for transactions that insert rows of this user
    shared = or_(*[exists().where(column == user_id) for column in SHARED])
    if tx.execute(select(shared)).scalar_one():
        return False
    for column in OWN:
        tx.execute(delete(column.class_).where(column == user_id))
    tx.execute(delete(User).where(User.id == user_id))
    return True

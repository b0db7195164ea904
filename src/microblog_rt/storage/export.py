"""Everything that is stored about a user, for the user."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from microblog_rt.models import Follow, Mention, Message, Notification, Post, User
from microblog_rt.storage import Reading


async def messages(reading: Reading, user_id: int, sent: bool, after: int, size: int) -> Sequence[Any]:
    """Up to ``size`` messages that a user has sent or received, with an id greater than ``after``, in that order.

    Of each the id, the other user's name, the text and the time.
    """
    own, other = Message.recipient_id, Message.sender_id
    if sent:
        own, other = other, own
    time = func.coalesce(Message.created, Message.timestamp)
    statement = select(Message.id, User.username, Message.body, time).join(User, User.id == other)
    found = await reading.execute(statement.where(own == user_id, Message.id > after).order_by(Message.id).limit(size))
    return found.all()


async def notifications(reading: Reading, user_id: int) -> Sequence[Notification]:
    """The user's notifications, oldest first."""
    statement = select(Notification).where(Notification.user_id == user_id).order_by(Notification.timestamp)
    return (await reading.scalars(statement)).all()


async def posts(reading: Reading, user_id: int, after: int, size: int) -> Sequence[Any]:
    """Up to ``size`` posts of a user, as ``messages``: the id, the text, the time, the id of the post replied to."""
    statement = select(Post.id, Post.body, Post.created, Post.reply_to_id)
    found = await reading.execute(
        statement.where(Post.user_id == user_id, Post.id > after).order_by(Post.id).limit(size)
    )
    return found.all()


async def mentions(reading: Reading, user_id: int, after: int, size: int) -> Sequence[Any]:
    """Up to ``size`` mentions of a user, as ``messages``: the id, and the author, id, text and time of the post."""
    statement = select(Mention.id, User.username, Post.id, Post.body, Post.created)
    statement = statement.join(Post, Post.id == Mention.post_id).join(User, User.id == Post.user_id)
    these = statement.where(Mention.recipient_id == user_id, Mention.id > after)
    return (await reading.execute(these.order_by(Mention.id).limit(size))).all()


async def follows(reading: Reading, user_id: int, after: int, size: int) -> Sequence[Any]:
    """Up to ``size`` users that a user follows, with an id greater than ``after``: the id, the name, since when."""
    statement = select(Follow.followed_id, User.username, Follow.created).join(User, User.id == Follow.followed_id)
    these = statement.where(Follow.follower_id == user_id, Follow.followed_id > after)
    return (await reading.execute(these.order_by(Follow.followed_id).limit(size))).all()

"""Everything that is stored about a user, for the user."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from microblog_rt.models import Message, Notification, User
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

"""The end of an account: every row of a user."""

from sqlalchemy import delete, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from microblog_rt.models import (
    AccessToken,
    IdempotentWrite,
    Mailbox,
    Message,
    Notification,
    OneTimeLink,
    Session,
    User,
    Webhook,
)
from microblog_rt.storage import Transaction, accounts

# The columns of a user's own rows, in the order in which they are deleted. Messages are deleted before, one part at a
# time, since they change the counters of others.
OWN: tuple[InstrumentedAttribute[int] | InstrumentedAttribute[int | None], ...] = (
    Notification.user_id,
    Session.user_id,
    AccessToken.user_id,
    OneTimeLink.user_id,
    IdempotentWrite.user_id,
    Webhook.user_id,
    Mailbox.user_id,
)


def delete_user(tx: Transaction, user_id: int) -> bool:
    """Delete a user, whose mailbox is locked; False if there are still messages, which must be deleted before."""
    accounts.credentials(tx, user_id)  # waits for transactions that insert rows of this user
    of_user = or_(Message.sender_id == user_id, Message.recipient_id == user_id)
    if tx.execute(select(exists().where(of_user))).scalar_one():
        return False
    for column in OWN:
        tx.execute(delete(column.class_).where(column == user_id))
    tx.execute(delete(User).where(User.id == user_id))
    return True

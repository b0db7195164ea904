"""Messages in the database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, String, and_, bindparam, not_, or_, select
from sqlalchemy.dialects.postgresql import insert  # rendered for SQLite too
from sqlalchemy.orm import joinedload

from microblog_rt.errors import Invalid, KeyReused, Refused
from microblog_rt.models import Mailbox, Message, User
from microblog_rt.storage import Reading, Transaction
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.storage.pages import Page, page
from microblog_rt.storage.prepared import Prepared
from microblog_rt.storage.sql_time import NOW


class AlreadySent(Refused):
    """This message exists under its idempotency key; the transaction must be rolled back."""


# Built once: building a statement costs more than running it.
SENDABLE = select(
    bindparam("sender_id", type_=BigInteger),
    User.id,
    bindparam("body", type_=String),
    bindparam("timestamp", type_=BigInteger),
    NOW,
    User.id == bindparam("sender_id", type_=BigInteger),
    bindparam("idempotency_key", type_=String),
).where(User.id == bindparam("recipient_id", type_=BigInteger), not_(User.disabled))
ADD = Prepared(
    insert(Message)
    .from_select(["sender_id", "recipient_id", "body", "timestamp", "created", "read", "idempotency_key"], SENDABLE)
    .on_conflict_do_nothing(index_elements=["sender_id", "idempotency_key"])
    .returning(Message.id)
)
SENT = select(Message.recipient_id, Message.body).where(
    Message.sender_id == bindparam("sender_id"), Message.idempotency_key == bindparam("idempotency_key")
)


def add(tx: Transaction, **values: Any) -> None:
    """Insert a message; one to its sender is read already.

    Raises AlreadySent if it exists under its sender's key, KeyReused if another does, Invalid if the recipient's
    account is disabled. On PostgreSQL the insert waits for a transaction that writes the same key; the next statement
    sees its outcome.
    """
    if ADD.row(tx, values) is None:
        sent = tx.execute(SENT, values).one_or_none()
        if sent is None:
            raise Invalid("message", "recipient_disabled")
        raise AlreadySent if tuple(sent) == (values["recipient_id"], values["body"]) else KeyReused


async def inbox(
    reading: Reading, user_id: int, size: int, before: int | None = None, after: int | None = None
) -> Page[Any]:
    """A page of the received messages, newest first, with their authors and whether each is unread.

    Those next to the timestamp ``before`` or ``after``; without them the newest.
    """
    statement = (
        select(Message, UNREAD_MESSAGES.is_unread)
        .join(Mailbox, Mailbox.user_id == Message.recipient_id)
        .where(Message.recipient_id == user_id)
        .options(joinedload(Message.author, innerjoin=True))
    )
    # In the order shown, the newest first, older messages come after.
    return await page(reading, statement, Message.timestamp, size, after, before, descending=True)


async def sent_under(reading: Reading, sender_id: int, idempotency_key: str) -> Any:
    """The recipient's name, the text and the timestamp of the message under a key; None if it was withdrawn."""
    this = and_(Message.sender_id == sender_id, Message.idempotency_key == idempotency_key)
    columns = select(User.username, Message.body, Message.timestamp).join(User, User.id == Message.recipient_id)
    return (await reading.execute(columns.where(this))).one_or_none()


async def sent_by(reading: Reading, sender_id: int, count: int) -> Sequence[tuple[int, int]]:
    """The ids of ``count`` messages of a sender, with their recipients."""
    statement = select(Message.id, Message.recipient_id).where(Message.sender_id == sender_id)
    return (await reading.execute(statement.limit(count))).all()


async def of_user(reading: Reading, user_id: int, count: int) -> Sequence[tuple[int, int]]:
    """The ids of ``count`` messages that a user has sent or received, with their recipients."""
    statement = select(Message.id, Message.recipient_id)
    of_user = or_(Message.sender_id == user_id, Message.recipient_id == user_id)
    return (await reading.execute(statement.where(of_user).limit(count))).all()

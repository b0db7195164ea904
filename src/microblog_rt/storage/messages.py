"""Messages in the database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert  # rendered for SQLite too
from sqlalchemy.orm import joinedload

from microblog_rt.errors import KeyReused, Refused
from microblog_rt.models import Mailbox, Message
from microblog_rt.storage import Reading, Transaction


class AlreadySent(Refused):
    """This message exists under its idempotency key; the transaction must be rolled back."""


# Built once: building a statement costs more than running it.
ADD = (
    insert(Message)
    .on_conflict_do_nothing(index_elements=["sender_id", "idempotency_key"])
    .returning(Message.id)
    .values({column.name: bindparam(column.name) for column in Message.__table__.columns if column.name != "id"})
)
SENT = select(Message.recipient_id, Message.body).where(
    Message.sender_id == bindparam("sender_id"), Message.idempotency_key == bindparam("idempotency_key")
)


def add(tx: Transaction, **values: Any) -> None:
    """Insert a message. Raises AlreadySent if it exists under its sender's key, KeyReused if another does.

    On PostgreSQL the insert waits for a transaction that writes the same key; the next statement sees its outcome.
    """
    if tx.execute(ADD, values).scalar_one_or_none() is None:
        sent = tx.execute(SENT, values).one()
        raise AlreadySent if tuple(sent) == (values["recipient_id"], values["body"]) else KeyReused


async def inbox(reading: Reading, user_id: int, offset: int, count: int) -> Sequence[tuple[Message, bool]]:
    """``count`` received messages, newest first, with their authors and whether each is unread."""
    statement = (
        select(Message, Message.timestamp > Mailbox.last_message_read_time)
        .join(Mailbox, Mailbox.user_id == Message.recipient_id)
        .where(Message.recipient_id == user_id)
        .options(joinedload(Message.author, innerjoin=True))
        .order_by(Message.timestamp.desc())
        .offset(offset)
        .limit(count)
    )
    return [(message, unread) for message, unread in await reading.execute(statement)]

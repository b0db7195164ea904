"""Messages and the mark of reading in the database. Not here: who may send, who is told (``messages.py`` above)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import joinedload

from microblog_rt.errors import KeyReused
from microblog_rt.models import Mailbox, Message
from microblog_rt.storage import Reading, Transaction
from microblog_rt.storage.upsert import insert


class AlreadySent(Exception):
    """This message is there already, under its idempotency key; the transaction must be left without a commit."""


# Built once: to build a statement costs more than to run it.
ADD = (
    insert(Message)
    .on_conflict_do_nothing(index_elements=["sender_id", "idempotency_key"])
    .returning(Message.id)
    .values({column.name: bindparam(column.name) for column in Message.__table__.columns if column.name != "id"})
)
SENT = select(Message.recipient_id, Message.body).where(
    Message.sender_id == bindparam("sender_id"), Message.idempotency_key == bindparam("idempotency_key")
)
UNREAD = (
    select(func.count())
    .select_from(Message)
    .where(Message.recipient_id == bindparam("of_user"), Message.timestamp > Mailbox.last_message_read_time)
    .scalar_subquery()
)
RECOUNT = (
    update(Mailbox)
    .where(Mailbox.user_id == bindparam("of_user"))
    .values(unread_message_count=UNREAD)
    .returning(Mailbox.unread_message_count)
)


async def add(tx: Transaction, **values: Any) -> None:
    """Insert one message; raises AlreadySent where it is there under its sender's key, KeyReused where another is.

    On PostgreSQL this waits for whoever is writing under the same key; how that ended, the next statement sees.
    """
    if (await tx.execute(ADD, values)).scalar_one_or_none() is None:
        sent = (await tx.execute(SENT, values)).one()
        raise AlreadySent if tuple(sent) == (values["recipient_id"], values["body"]) else KeyReused


async def recount(tx: Transaction, user_id: int) -> int:
    """Count the messages after the mark anew, in the mailbox that this transaction has locked."""
    return (await tx.execute(RECOUNT, {"of_user": user_id})).scalar_one()


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

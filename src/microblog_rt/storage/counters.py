"""The counted notifications: each is a column of the mailbox, and a query that counts it anew.

To add one: its columns in ``models.Mailbox``, a migration, and an entry here. Nothing else knows counters by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, bindparam, func, select
from sqlalchemy.orm import InstrumentedAttribute

from microblog_rt.models import Mailbox, Message


@dataclass(frozen=True, eq=False)
class Counter:
    """A number that is kept up to date with every change.

    ``name`` is the notification's; ``mark`` is the mailbox column that holds the clock reading up to which everything
    is read; ``newer_than(mark)`` counts what the user ``of_user`` has not read.
    """

    name: str
    column: InstrumentedAttribute[int]
    mark: InstrumentedAttribute[Any]
    newer_than: Callable[[ColumnElement[Any]], ScalarSelect[int]]


def _messages_newer_than(mark: ColumnElement[Any]) -> ScalarSelect[int]:
    received = Message.recipient_id == bindparam("of_user")
    return select(func.count()).select_from(Message).where(received, Message.timestamp > mark).scalar_subquery()


UNREAD_MESSAGES = Counter(
    "unread_message_count", Mailbox.unread_message_count, Mailbox.last_message_read_time, _messages_newer_than
)

COUNTERS = (UNREAD_MESSAGES,)

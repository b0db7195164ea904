"""The counted notifications: each is a column of the mailbox, and a query that counts it anew.

To add one: its columns in ``models.Mailbox``, a migration, and an entry here. Nothing else knows counters by name.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, and_, func, not_, select
from sqlalchemy.orm import InstrumentedAttribute

from microblog_rt.models import Mailbox, Message
from microblog_rt.storage.sql_time import Later


@dataclass(frozen=True, eq=False)
class Counter:
    """The number of a user's unread items, kept up to date with every change.

    ``name`` is the notification's; ``mark`` is the mailbox column that holds the clock reading up to which everything
    is read. ``items`` is the model that is counted, with the columns ``recipient_id``, ``timestamp`` and ``read``.
    """

    name: str
    column: InstrumentedAttribute[int]
    mark: InstrumentedAttribute[int]
    items: Any

    @property
    def is_unread(self) -> ColumnElement[bool]:
        """Whether an item of the mailbox's user is unread."""
        return self._is_unread_after(self.mark)

    def unread(self, *where: ColumnElement[bool], after: Any = None, what: Any = None) -> ScalarSelect[int]:
        """How many unread items there are in the mailbox, or ``what`` of them; to be used in a query of it.

        Only those after the clock reading ``after``, if given.
        """
        counted = select(func.count() if what is None else what).select_from(self.items)
        # One lower bound: with two, SQLite begins at the first of them.
        is_unread = self._is_unread_after(self.mark if after is None else Later(self.mark, after))
        return counted.where(is_unread, *where).correlate(Mailbox).scalar_subquery()

    def _is_unread_after(self, bound: Any) -> ColumnElement[bool]:
        return and_(self.items.recipient_id == Mailbox.user_id, self.items.timestamp > bound, not_(self.items.read))


UNREAD_MESSAGES = Counter("unread_message_count", Mailbox.unread_message_count, Mailbox.last_message_read_time, Message)

COUNTERS = (UNREAD_MESSAGES,)

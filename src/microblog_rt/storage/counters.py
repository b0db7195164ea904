"""The counted notifications: each is a column of the mailbox, and a query that counts it anew.

To add one: its columns in ``models.Mailbox``, a migration, and an entry here. Nothing else knows counters by name.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, and_, func, join, not_, select
from sqlalchemy.orm import InstrumentedAttribute

from microblog_rt.models import Follow, Mailbox, Mention, Message, Post
from microblog_rt.storage.sql_time import Later


@dataclass(frozen=True, eq=False)
class Counter:
    """The number of a user's unread items, kept up to date with every change.

    ``name`` is the notification's; ``mark`` is the mailbox column that holds the position up to which everything is
    read. ``items`` is what the count selects from, ``of_mailbox`` whether an item is one of the mailbox's user, and
    ``position`` orders the items. ``end`` is a position that no later item has or precedes. ``read`` is a column that
    says that an item is read although an older one is not; None if only the mark says what is read.
    """

    name: str
    column: InstrumentedAttribute[int]
    mark: InstrumentedAttribute[int]
    items: Any
    of_mailbox: ColumnElement[bool]
    position: Any
    end: Any
    read: Any = None

    @property
    def is_unread(self) -> ColumnElement[bool]:
        """Whether an item of the mailbox's user is unread."""
        return self._is_unread_after(self.mark)

    def unread(self, *where: ColumnElement[bool], after: Any = None, what: Any = None) -> ScalarSelect[int]:
        """How many unread items there are in the mailbox, or ``what`` of them; to be used in a query of it.

        Only those after the position ``after``, if given.
        """
        counted = select(func.count() if what is None else what).select_from(self.items)
        # One lower bound: with two, SQLite begins at the first of them.
        is_unread = self._is_unread_after(self.mark if after is None else Later(self.mark, after))
        return counted.where(is_unread, *where).correlate(Mailbox).scalar_subquery()

    def _is_unread_after(self, bound: Any) -> ColumnElement[bool]:
        unmarked = and_(self.of_mailbox, self.position > bound)
        return unmarked if self.read is None else and_(unmarked, not_(self.read))


def _received(name: str, column: InstrumentedAttribute[int], mark: InstrumentedAttribute[int], items: Any) -> Counter:
    """A counter of a model with the columns ``recipient_id``, ``timestamp`` (of the mailbox clock) and ``read``."""
    of_mailbox = items.recipient_id == Mailbox.user_id
    return Counter(name, column, mark, items, of_mailbox, items.timestamp, Mailbox.clock, items.read)


UNREAD_MESSAGES = _received(
    "unread_message_count", Mailbox.unread_message_count, Mailbox.last_message_read_time, Message
)

UNREAD_MENTIONS = _received(
    "unread_mention_count", Mailbox.unread_mention_count, Mailbox.last_mention_read_time, Mention
)
UNREAD_POSTS = Counter(
    "unread_post_count",
    Mailbox.unread_post_count,
    Mailbox.last_post_seen,
    items=join(Follow, Post, Post.user_id == Follow.followed_id),
    of_mailbox=and_(Follow.follower_id == Mailbox.user_id, Post.id <= Follow.delivered_id),
    position=Post.id,
    end=select(func.coalesce(func.max(Post.id), 0)).scalar_subquery(),
)

COUNTERS = (UNREAD_MESSAGES, UNREAD_MENTIONS, UNREAD_POSTS)

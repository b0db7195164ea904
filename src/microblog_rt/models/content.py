"""What users write and are notified of: messages, posts, follows, mentions, notifications, webhooks."""

import json
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint, false, not_
from sqlalchemy.orm import Mapped, mapped_column, relationship

from microblog_rt.models.accounts import MESSAGE_CODE_POINTS, Base, Id, User

NOTIFICATION_NAME_LENGTH = 128


class Message(Base):
    """A private message.

    ``timestamp`` is a reading of the recipient's clock, unique per recipient: it orders. ``created`` is the time at
    which it was sent; None, from a release without this column, means the same as ``timestamp``. ``read``: read
    although an older one is not; see ``Mailbox.last_message_read_time``.
    """

    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("recipient_id", "timestamp"),
        UniqueConstraint("sender_id", "idempotency_key"),
        # For ``storage/conversations.py``: an exchange in its order, and what a user has not read from another.
        Index(None, "sender_id", "recipient_id", "id"),
        Index(None, "recipient_id", "sender_id", "read", "timestamp"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    sender_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    recipient_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    body: Mapped[str] = mapped_column(String(MESSAGE_CODE_POINTS))
    timestamp: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[int | None] = mapped_column(BigInteger)
    read: Mapped[bool] = mapped_column(server_default=false())
    idempotency_key: Mapped[str | None] = mapped_column(String(64))

    author: Mapped[User] = relationship(back_populates="messages_sent", foreign_keys=[sender_id], lazy="raise")
    recipient: Mapped[User] = relationship(
        back_populates="messages_received", foreign_keys=[recipient_id], lazy="raise"
    )


class Post(Base):
    """A public text.

    Ids are given in the order of commits, so they order posts, and none appears behind one that a page has shown.
    ``reply_to_id`` is the post that it replies to. ``delivered``: it is in the counts of all followers of its author.
    """

    __tablename__ = "post"
    __table_args__ = (
        UniqueConstraint("user_id", "idempotency_key"),
        Index("ix_post_user_id_id", "user_id", "id"),
        Index("ix_post_reply_to_id_id", "reply_to_id", "id"),
        {"sqlite_autoincrement": True},  # the id of a deleted post is not given again
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    body: Mapped[str] = mapped_column(String(MESSAGE_CODE_POINTS))
    created: Mapped[int] = mapped_column(BigInteger)
    reply_to_id: Mapped[int | None] = mapped_column(ForeignKey("post.id"))
    delivered: Mapped[bool] = mapped_column(server_default=false())
    idempotency_key: Mapped[str | None] = mapped_column(String(64))

    author: Mapped[User] = relationship(lazy="raise")
    reply_to: Mapped["Post | None"] = relationship(remote_side=[id], lazy="raise")


# Few posts are not delivered yet.
Index("ix_post_undelivered", Post.user_id, sqlite_where=not_(Post.delivered), postgresql_where=not_(Post.delivered))


class Follow(Base):
    """A user follows another since ``created``.

    Posts of ``followed_id`` up to the id ``delivered_id`` are delivered: those after the follower's
    ``Mailbox.last_post_seen`` are in the follower's count.
    """

    __tablename__ = "follow"
    __table_args__ = (Index("ix_follow_followed_id_follower_id", "followed_id", "follower_id"),)

    follower_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True, autoincrement=False)
    followed_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True, autoincrement=False)
    created: Mapped[int] = mapped_column(BigInteger)
    delivered_id: Mapped[int] = mapped_column(BigInteger)


class Mention(Base):
    """A post names a user, or replies to one of the user's posts; once per post.

    ``timestamp`` is a reading of the user's clock; ``read`` as in ``Message``.
    """

    __tablename__ = "mention"
    __table_args__ = (UniqueConstraint("recipient_id", "timestamp"), UniqueConstraint("post_id", "recipient_id"))

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    recipient_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    post_id: Mapped[int] = mapped_column(ForeignKey("post.id"))
    timestamp: Mapped[int] = mapped_column(BigInteger)
    read: Mapped[bool] = mapped_column(server_default=false())

    post: Mapped[Post] = relationship(lazy="raise")


class Notification(Base):
    """The latest state of one name for one user: one row per user and name, replaced by each change."""

    __tablename__ = "notification"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(NOTIFICATION_NAME_LENGTH), primary_key=True)
    timestamp: Mapped[int] = mapped_column(BigInteger)
    payload_json: Mapped[str] = mapped_column(Text)

    def get_data(self) -> Any:
        """The notification's data, parsed from its JSON."""
        return json.loads(self.payload_json)


class Webhook(Base):
    """How far a user's notifications have been told, while webhooks are used, and when the next POST may begin.

    ``told``: the timestamp up to which a client has confirmed notifications, or a receiver has accepted them.
    ``untold_since``: the timestamp of the oldest notification after that, 0 without one; a newer one of the same name
    replaces that notification, but not this. ``first_attempt``: when the first of the failed ``attempts`` began; 0
    without one. The row of user 0 has the time at which webhooks were first used as ``told``, and when to look for
    notifications next.
    """

    __tablename__ = "webhook"

    user_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    told: Mapped[int] = mapped_column(BigInteger)
    untold_since: Mapped[int] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(Integer)
    first_attempt: Mapped[int] = mapped_column(BigInteger)
    next_attempt: Mapped[int] = mapped_column(BigInteger)

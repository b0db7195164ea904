"""The nouns, as mapped classes: User, Mailbox, Session, Message, Notification, and the Attempts that limits count.

Every time in the database is a BIGINT of microseconds since 1970, a reading of a mailbox's clock
(``storage/clock.py``). Not here: queries (``storage/``) and what may be done with the nouns (``accounts``,
``messages``, ``notifications``). All relationships are ``lazy="raise"``: what a page shows was loaded on purpose.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint, false
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

USERNAME_LENGTH = 64
EMAIL_LENGTH = 254
MESSAGE_LENGTH = 140
NOTIFICATION_NAME_LENGTH = 128
DEVICE_LENGTH = 200
SUBJECT_LENGTH = 100


class Moment(TypeDecorator[datetime]):
    """Microseconds in the database, an aware datetime in Python; a clock reading (int) is taken as it is."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | int | None, dialect: Dialect) -> int | None:
        return (value - EPOCH) // MICROSECOND if isinstance(value, datetime) else value

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + value * MICROSECOND


class Seconds(TypeDecorator[float]):
    """Microseconds in the database, float seconds in Python; a clock reading (int) is taken as it is."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: float | int | None, dialect: Dialect) -> int | None:
        return round(value * 1_000_000) if isinstance(value, float) else value

    def process_result_value(self, value: int | None, dialect: Dialect) -> float | None:
        return None if value is None else value / 1_000_000


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


# SQLite numbers rows by itself only where the primary key's type is exactly INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")


class User(Base):
    """A person with an account. ``username_key`` is the name in lower case: names are unique whatever their case."""

    __tablename__ = "user"
    __table_args__ = (UniqueConstraint("username_key"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    username: Mapped[str] = mapped_column(String(USERNAME_LENGTH))
    username_key: Mapped[str] = mapped_column(String(USERNAME_LENGTH))
    email: Mapped[str | None] = mapped_column(String(EMAIL_LENGTH))
    password_hash: Mapped[str] = mapped_column(String(256))
    member_since: Mapped[datetime] = mapped_column(Moment)
    disabled: Mapped[bool] = mapped_column(server_default=false())

    mailbox: Mapped["Mailbox"] = relationship(back_populates="user", lazy="raise")
    messages_received: Mapped[list["Message"]] = relationship(
        back_populates="recipient", foreign_keys="Message.recipient_id", lazy="raise"
    )
    messages_sent: Mapped[list["Message"]] = relationship(
        back_populates="author", foreign_keys="Message.sender_id", lazy="raise"
    )


class Mailbox(Base):
    """What a user is told: the clock that orders it, the high-water mark of reading, the unread count.

    ``clock`` only grows. ``clock_before`` is what it was before its last tick, so that a signal-up can say
    what it follows. ``unread_message_count`` is always the number of messages after the mark.
    """

    __tablename__ = "mailbox"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True, autoincrement=False)
    clock: Mapped[int] = mapped_column(BigInteger)
    clock_before: Mapped[int] = mapped_column(BigInteger)
    last_message_read_time: Mapped[datetime] = mapped_column(Moment)
    unread_message_count: Mapped[int] = mapped_column(Integer)

    user: Mapped[User] = relationship(back_populates="mailbox", lazy="raise")


class Session(Base):
    """A sign-in that lasts until it is ended or expires; the browser holds the token, this row only its hash.

    ``device`` is what the browser called itself.
    """

    __tablename__ = "session"
    __table_args__ = (Index(None, "user_id"),)

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    remembered: Mapped[bool]
    created: Mapped[datetime] = mapped_column(Moment)
    last_used: Mapped[datetime] = mapped_column(Moment)
    expires: Mapped[datetime] = mapped_column(Moment)
    device: Mapped[str] = mapped_column(String(DEVICE_LENGTH), server_default="")

    user: Mapped[User] = relationship(lazy="raise")


class Message(Base):
    """A private message. ``timestamp`` is a reading of the recipient's clock: no two of one recipient are equal."""

    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("recipient_id", "timestamp"),
        UniqueConstraint("sender_id", "idempotency_key"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    sender_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    recipient_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    body: Mapped[str] = mapped_column(String(MESSAGE_LENGTH))
    timestamp: Mapped[datetime] = mapped_column(Moment)
    idempotency_key: Mapped[str | None] = mapped_column(String(64))

    author: Mapped[User] = relationship(back_populates="messages_sent", foreign_keys=[sender_id], lazy="raise")
    recipient: Mapped[User] = relationship(
        back_populates="messages_received", foreign_keys=[recipient_id], lazy="raise"
    )


class Notification(Base):
    """The state a user was last told under a name: one row per user and name, the newest in place of the older."""

    __tablename__ = "notification"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(NOTIFICATION_NAME_LENGTH), primary_key=True)
    timestamp: Mapped[float] = mapped_column(Seconds)
    payload_json: Mapped[str] = mapped_column(Text)

    def get_data(self) -> Any:
        """The notification's data, out of its JSON."""
        return json.loads(self.payload_json)


class Attempt(Base):
    """Something that a limit counts, until it ``expires``; ``subject`` says what was done, and by whom."""

    __tablename__ = "attempt"
    __table_args__ = (Index(None, "subject", "expires"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    subject: Mapped[str] = mapped_column(String(SUBJECT_LENGTH))
    expires: Mapped[int] = mapped_column(BigInteger)

"""The base of the mapped classes, and accounts: users with their mailboxes, sessions, tokens, links and limits."""

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint, false, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

if TYPE_CHECKING:
    from microblog_rt.models.content import Message

USERNAME_LENGTH = 64
EMAIL_LENGTH = 254
DISPLAY_NAME_CODE_POINTS = 500
USERNAME_SKELETON_LENGTH = 256
MESSAGE_CODE_POINTS = 1400
DEVICE_LENGTH = 200
SUBJECT_LENGTH = 100
TOKEN_ID_LENGTH = 12
TOKEN_NAME_LENGTH = 100

# What an access token may be used for.
READ_NOTIFICATIONS = "notifications:read"
READ_MESSAGES = "messages:read"
SEND_MESSAGES = "messages:send"
PUBLISH_NOTIFICATIONS = "notifications:publish"
SCOPES = (READ_NOTIFICATIONS, READ_MESSAGES, SEND_MESSAGES, PUBLISH_NOTIFICATIONS)


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


# SQLite assigns row ids only if the primary key's type is exactly INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")


class User(Base):
    """An account.

    ``username_key`` is unique, the same for each case and normalization form of a name. ``username_skeleton`` is the
    same for names that look alike (``names.py``); None if a release without this column created the account.
    ``jwts_after``: the user belongs to another site, whose signed tokens are valid if they were issued after this time;
    None for an account of this site's own. ``display_name`` and ``about_me`` are what the user says on the profile.
    """

    __tablename__ = "user"
    __table_args__ = (UniqueConstraint("username_key"), Index(None, "username_skeleton"))

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    username: Mapped[str] = mapped_column(String(USERNAME_LENGTH))
    username_key: Mapped[str] = mapped_column(String(USERNAME_LENGTH))
    username_skeleton: Mapped[str | None] = mapped_column(String(USERNAME_SKELETON_LENGTH))
    email: Mapped[str | None] = mapped_column(String(EMAIL_LENGTH))
    password_hash: Mapped[str] = mapped_column(String(256))
    member_since: Mapped[int] = mapped_column(BigInteger)
    disabled: Mapped[bool] = mapped_column(server_default=false())
    jwts_after: Mapped[int | None] = mapped_column(BigInteger)
    display_name: Mapped[str | None] = mapped_column(String(DISPLAY_NAME_CODE_POINTS))
    about_me: Mapped[str | None] = mapped_column(String(MESSAGE_CODE_POINTS))

    mailbox: Mapped["Mailbox"] = relationship(back_populates="user", lazy="raise")
    messages_received: Mapped[list["Message"]] = relationship(
        back_populates="recipient", foreign_keys="Message.recipient_id", lazy="raise"
    )
    messages_sent: Mapped[list["Message"]] = relationship(
        back_populates="author", foreign_keys="Message.sender_id", lazy="raise"
    )


class Mailbox(Base):
    """A user's clock, read marks and counters.

    ``clock`` only grows; ``clock_before`` is its value before the last tick. Everything up to
    ``last_message_read_time`` is read. ``unread_message_count`` always equals the number of messages whose timestamp
    is greater than that and which are not marked ``read`` themselves; ``unread_mention_count`` that of mentions in the
    same way. ``unread_post_count`` equals the number of posts after ``last_post_seen``, an id, that were delivered: see
    ``Follow``. What each counts is declared in ``storage/counters.py``.
    """

    __tablename__ = "mailbox"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True, autoincrement=False)
    clock: Mapped[int] = mapped_column(BigInteger)
    clock_before: Mapped[int] = mapped_column(BigInteger)
    last_message_read_time: Mapped[int] = mapped_column(BigInteger)
    unread_message_count: Mapped[int] = mapped_column(Integer)
    last_post_seen: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    unread_post_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    last_mention_read_time: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    unread_mention_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))

    user: Mapped[User] = relationship(back_populates="mailbox", lazy="raise")


class Session(Base):
    """A sign-in, until it is ended or expires. The browser holds the token, this row only its hash.

    ``device`` is the User-Agent.
    """

    __tablename__ = "session"
    __table_args__ = (Index(None, "user_id"),)

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    remembered: Mapped[bool]
    created: Mapped[int] = mapped_column(BigInteger)
    last_used: Mapped[int] = mapped_column(BigInteger)
    expires: Mapped[int] = mapped_column(BigInteger)
    device: Mapped[str] = mapped_column(String(DEVICE_LENGTH), server_default="")

    user: Mapped[User] = relationship(lazy="raise")


class AccessToken(Base):
    """A credential of a program, until it is revoked or expires. The program holds the secret, this row only its hash.

    ``id`` is its public name, ``name`` what its user calls it. ``scopes`` are separated by spaces. None as ``expires``
    means never, as ``last_used`` not yet.
    """

    __tablename__ = "access_token"
    __table_args__ = (UniqueConstraint("token_hash"), Index(None, "user_id"))

    id: Mapped[str] = mapped_column(String(TOKEN_ID_LENGTH), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    name: Mapped[str] = mapped_column(String(TOKEN_NAME_LENGTH))
    scopes: Mapped[str] = mapped_column(String(200))
    token_hash: Mapped[str] = mapped_column(String(64))
    created: Mapped[int] = mapped_column(BigInteger)
    expires: Mapped[int | None] = mapped_column(BigInteger)
    last_used: Mapped[int | None] = mapped_column(BigInteger)


class OneTimeLink(Base):
    """A link that can be used once, until ``expires``. The mail holds the token, this row only its hash.

    ``kind`` is PASSWORD (sets a new password), EMAIL (confirms ``email`` as the user's address) or INVITATION (lets its
    holder register; without a user). ``email`` is the address to which the link was sent.
    """

    __tablename__ = "one_time_link"
    __table_args__ = (Index(None, "user_id"),)

    PASSWORD = "password"  # noqa: S105
    EMAIL = "email"
    INVITATION = "invitation"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"))
    email: Mapped[str | None] = mapped_column(String(EMAIL_LENGTH))
    expires: Mapped[int] = mapped_column(BigInteger)


class Attempt(Base):
    """One action that a rate limit counts until ``expires``; ``subject`` names the action and who did it."""

    __tablename__ = "attempt"
    __table_args__ = (Index(None, "subject", "expires"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    subject: Mapped[str] = mapped_column(String(SUBJECT_LENGTH))
    expires: Mapped[int] = mapped_column(BigInteger)


class IdempotentWrite(Base):
    """A write that a user has made under an ``Idempotency-Key``, until ``expires``: of what, and with which result.

    ``key`` and ``request`` are hashes, of the key and of the operation with its body.
    """

    __tablename__ = "idempotent_write"
    __table_args__ = (Index(None, "expires"),)

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    request: Mapped[str] = mapped_column(String(64))
    result_json: Mapped[str] = mapped_column(Text)
    expires: Mapped[int] = mapped_column(BigInteger)

"""A send as one change: recipient, mailbox clock and counter, message, limit, notification.

On PostgreSQL it is one statement, and so one round trip: the function ``send_message`` of migration 0005, joined to the
sender's session if that is to be checked. On SQLite, where a statement costs no round trip, it is one statement per
step. Both give the same results and errors.
"""

import hashlib
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Integer, String, and_, bindparam, column, func, select, true

from microblog_rt import names
from microblog_rt.errors import Invalid, KeyReused, NotFound, SignedOut
from microblog_rt.models import Session, User
from microblog_rt.protocol import MICROSECONDS, Notification
from microblog_rt.settings import Limit
from microblog_rt.storage import Transaction, limits, mailboxes, messages, notifications, postgres
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.storage.mailboxes import Tick
from microblog_rt.storage.messages import AlreadySent
from microblog_rt.storage.prepared import Prepared
from microblog_rt.storage.sql_time import NOW


class SessionUse(NamedTuple):
    """A session that must be live, and whose last stored use must be less than ``unused_below`` microseconds ago."""

    token_hash: str
    unused_below: int


class Outgoing(NamedTuple):
    """A message to be sent to a user, given by id or by name.

    ``program_key`` identifies it among those of its sender; otherwise the recipient, a ``nonce`` and its text do.
    ``session``: the sender's, if it is to be checked as a part of the change.
    """

    sender_id: int
    recipient: int | str
    body: str
    nonce: str
    program_key: str
    limit: Limit | None
    session: SessionUse | None = None

    @property
    def subject(self) -> str:
        """What the limit counts."""
        return f"send:{self.sender_id}"

    @property
    def hashed_program_key(self) -> str | None:
        return _hash(f"header\0{self.program_key}") if self.program_key else None

    def idempotency_key(self, recipient_id: int) -> str | None:
        """The key under which the message is stored once."""
        return self.hashed_program_key or (_hash(f"{recipient_id}\0{self.nonce}\0{self.body}") if self.nonce else None)


class Sent(NamedTuple):
    """Who has received a message, and the new state of the mailbox."""

    recipient_id: int
    recipient: str
    tick: Tick


# Built once: building a statement costs more than running it.
COLUMNS = select(User.id, User.username)
BY_ID = Prepared(COLUMNS.where(User.id == bindparam("to")))
BY_NAME = Prepared(COLUMNS.where(User.username_key == bindparam("to")))
ARGUMENTS = {
    **dict.fromkeys(["from_id", "to_id"], BigInteger),
    **dict.fromkeys(["to_key", "body", "program_key", "nonce", "subject"], String),
    "times": Integer,
    "period": BigInteger,
}
PARAMETERS: list[Any] = [bindparam(name, type_=kind) for name, kind in ARGUMENTS.items()]
RESULTS = ["outcome", "recipient", "name", "ticked", "ticked_before", "unread", "wait"]
SEND = select(func.send_message(*PARAMETERS).table_valued(*map(column, RESULTS)))
IN_USE = and_(
    Session.token_hash == bindparam("token_hash"),
    Session.user_id == bindparam("session_of"),
    Session.expires > NOW,
    NOW - Session.last_used < bindparam("unused_below", type_=BigInteger),
)
SESSION = Prepared(select(Session.user_id).where(IN_USE))
# The argument from the session's row makes PostgreSQL find that row before it calls the function.
SEND_IN_SESSION = (
    select(IN_SESSION := func.send_message(Session.user_id, *PARAMETERS[1:]).table_valued(*map(column, RESULTS)))
    .select_from(Session)
    .join(IN_SESSION, true())
    .where(IN_USE)
)


def send(tx: Transaction, outgoing: Outgoing) -> Sent:
    """Send a message and notify of the new count.

    Raises SignedOut unless ``outgoing.session`` is in use, NotFound, AlreadySent, KeyReused, Invalid for a disabled
    account, OverLimit; the transaction must be rolled back then.
    """
    return _in_one_statement(tx, outgoing) if tx.dialect.name == postgres.NAME else _step_by_step(tx, outgoing)


def _step_by_step(tx: Transaction, outgoing: Outgoing) -> Sent:
    if outgoing.session and SESSION.row(tx, _session_values(outgoing)) is None:
        raise SignedOut
    recipient_id, recipient = _recipient(tx, outgoing.recipient)
    tick = mailboxes.count(tx, recipient_id, UNREAD_MESSAGES, int(recipient_id != outgoing.sender_id))
    messages.add(
        tx,
        sender_id=outgoing.sender_id,
        recipient_id=recipient_id,
        body=outgoing.body,
        timestamp=tick.clock,
        idempotency_key=outgoing.idempotency_key(recipient_id),
    )
    limits.take(tx, outgoing.subject, outgoing.limit)
    notifications.replace(tx, recipient_id, Notification(UNREAD_MESSAGES.name, str(tick.value), tick.clock))
    return Sent(recipient_id, recipient, tick)


def _in_one_statement(tx: Transaction, outgoing: Outgoing) -> Sent:
    times, seconds = outgoing.limit or (None, 0)
    found = tx.execute(
        SEND_IN_SESSION if outgoing.session else SEND,
        _session_values(outgoing)
        | {
            "from_id": outgoing.sender_id,
            "to_id": None if isinstance(outgoing.recipient, str) else outgoing.recipient,
            "to_key": names.key(outgoing.recipient) if isinstance(outgoing.recipient, str) else None,
            "body": outgoing.body,
            "program_key": outgoing.hashed_program_key,
            "nonce": outgoing.nonce or None,
            "subject": outgoing.subject,
            "times": times,
            "period": seconds * MICROSECONDS,
        },
    ).one_or_none()
    if found is None:
        raise SignedOut
    match found.outcome:
        case "unknown":
            raise _unknown(outgoing.recipient)
        case "already_sent":
            raise AlreadySent
        case "key_reused":
            raise KeyReused
        case "disabled":
            raise Invalid("message", "recipient_disabled")
        case "over_limit":
            raise limits.OverLimit(outgoing.subject, found.wait or 0)
    return Sent(found.recipient, found.name, Tick(found.ticked, found.ticked_before, found.unread))


def _session_values(outgoing: Outgoing) -> dict[str, Any]:
    return {"session_of": outgoing.sender_id, **outgoing.session._asdict()} if outgoing.session else {}


def _recipient(tx: Transaction, recipient: int | str) -> tuple[int, str]:
    found: tuple[int, str] | None
    if isinstance(recipient, str):
        found = BY_NAME.row(tx, {"to": names.key(recipient)})
    else:
        found = BY_ID.row(tx, {"to": recipient})
    if found is None:
        raise _unknown(recipient)
    return found


def _unknown(recipient: int | str) -> NotFound:
    return NotFound() if isinstance(recipient, int) else NotFound("unknown_user", name=recipient)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

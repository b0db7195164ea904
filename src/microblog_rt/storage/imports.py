"""Rows of other applications in the database; in transactions that last seconds, for an operator's command."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

from sqlalchemy import insert, or_, select, text

from microblog_rt import names
from microblog_rt.models import Mailbox, Message, User
from microblog_rt.storage import Transaction, postgres
from microblog_rt.storage.accounts import COUNTER_COLUMNS
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.storage.sql_time import NOW

AT_ONCE = 500  # rows of a statement, and names of a query

T = TypeVar("T")


@dataclass
class NewUser:
    """A user without an id. ``read_up_to`` and ``clock`` are timestamps of messages; None: now."""

    username: str
    email: str | None
    password_hash: str
    member_since: int | None
    read_up_to: int = 0
    clock: int = 0


class NewMessage(NamedTuple):
    """A message; ``sender`` and ``recipient`` are ids of the other application."""

    sender: int
    recipient: int
    body: str
    timestamp: int
    created: int


def taken(tx: Transaction, users: Iterable[NewUser]) -> list[str]:
    """The names of accounts that are, or look like, the name of one of ``users``. Later registrations wait."""
    if tx.dialect.name == postgres.NAME:
        tx.execute(text('LOCK TABLE "user" IN SHARE ROW EXCLUSIVE MODE'))
    found = set()
    accounts = select(User.username, User.username_key, User.username_skeleton)
    for some in _parts(users):
        wanted = {names.key(each.username): each.username for each in some}
        alike: dict[str | None, list[str]] = {}
        for name in wanted.values():
            alike.setdefault(names.skeleton(name), []).append(name)
        either = or_(User.username_key.in_(wanted), User.username_skeleton.in_(alike))
        for name, key, skeleton in tx.execute(accounts.where(either)):
            if key in wanted or any(names.look_alike(name, each) for each in alike[skeleton]):
                found.add(name)
    return sorted(found)


def add_users(tx: Transaction, users: Mapping[int, NewUser]) -> dict[int, int]:
    """Insert users and their mailboxes, whose counters are 0; the new ids, in the order of ``users``, by its keys."""
    now: int = tx.execute(select(NOW)).scalar_one()
    add = insert(User).returning(User.id, sort_by_parameter_order=True)
    ids: dict[int, int] = {}
    for some in _parts(users.items()):
        added = tx.execute(add, [_user(user, now) for _, user in some]).scalars().all()
        tx.execute(insert(Mailbox), [_mailbox(id_, user, now) for id_, (_, user) in zip(added, some, strict=True)])
        ids |= zip((old for old, _ in some), added, strict=True)
    return ids


def add_messages(tx: Transaction, ids: Mapping[int, int], messages: Iterable[NewMessage]) -> None:
    """Insert messages in their order; ``ids`` are the users' new ids."""
    for some in _parts(messages):
        rows = [each._asdict() | {"sender_id": ids[each.sender], "recipient_id": ids[each.recipient]} for each in some]
        for row in rows:
            del row["sender"], row["recipient"]
        tx.execute(insert(Message), rows)


def _user(user: NewUser, now: int) -> dict[str, object]:
    return {
        "username": user.username,
        "username_key": names.key(user.username),
        "username_skeleton": names.skeleton(user.username),
        "email": user.email,
        "password_hash": user.password_hash,
        "member_since": now if user.member_since is None else user.member_since,
    }


def _mailbox(user_id: int, user: NewUser, now: int) -> dict[str, int]:
    counters = dict.fromkeys(COUNTER_COLUMNS, 0) | {UNREAD_MESSAGES.mark.key: user.read_up_to}
    return {"user_id": user_id, "clock": max(now, user.clock), "clock_before": 0, **counters}


def _parts(items: Iterable[T]) -> Iterator[Sequence[T]]:
    rest = iter(items)
    while some := list(islice(rest, AT_ONCE)):
        yield some

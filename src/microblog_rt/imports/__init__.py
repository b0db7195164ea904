"""Imports of other applications' data: what is to be imported, and the one transaction that does it.

flask_microblog.py  the data of the Flask tutorial's application, by the rules of this one
tutorial_file.py    that application's SQLite database
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from microblog_rt.errors import Misconfigured
from microblog_rt.mailboxes import Change
from microblog_rt.storage import Storage, Transaction, imports
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.storage.imports import NewMessage, NewUser

SHOWN = 5  # names in an error


class NewNotification(NamedTuple):
    """A notification to be set; ``user`` is an id of the other application."""

    user: int
    name: str
    data: Any


@dataclass
class Import:
    """What is to be imported. ``users`` by their ids in the other application, in the order of these.

    ``notes`` say what becomes different, ``losses`` what cannot be imported, ``left`` what this application has no
    place for.
    """

    users: dict[int, NewUser]
    messages: list[NewMessage]
    notifications: list[NewNotification]
    notes: list[str]
    losses: list[str]
    left: list[str]

    def __str__(self) -> str:
        """The amounts, as in "2 users, 1 message and 0 notifications"."""
        users, messages = counted(self.users, "user"), counted(self.messages, "message")
        return f"{users}, {messages} and {counted(self.notifications, 'notification')}"


async def carry_out(wanted: Import, storage: Storage, *, dry_run: bool = False) -> None:
    """Write all of it in one transaction; with ``dry_run`` only check that this is possible.

    Raises Misconfigured, with the names, if an account has the name of one of the users or looks like it.
    """

    def work(tx: Transaction) -> None:
        _refuse(imports.taken(tx, wanted.users.values()))
        if not dry_run:
            _write(tx, wanted)

    # No signal after the commit: a user who did not exist has no subscribers.
    await storage.write(work)


def _write(tx: Transaction, wanted: Import) -> None:
    ids = imports.add_users(tx, wanted.users)
    imports.add_messages(tx, ids, wanted.messages)
    change = Change(tx, ids.values())
    for user in sorted({each.recipient for each in wanted.messages}):
        change.recount(ids[user], UNREAD_MESSAGES)
    for each in wanted.notifications:
        change.set(ids[each.user], each.name, each.data)


def _refuse(taken: list[str]) -> None:
    if taken:
        shown = ", ".join(taken[:SHOWN]) + (", ..." if len(taken) > SHOWN else "")
        raise Misconfigured(
            f"{len(taken)} accounts have names of the import, or names that look like them: {shown}. "
            "Nothing was imported. If this file was imported before, that is done; otherwise use an empty database"
        )


def counted(items: Iterable[object] | int, noun: str) -> str:
    """A number with its noun, as in "1 user"."""
    number = items if isinstance(items, int) else sum(1 for _ in items)
    return f"{number} {noun}{'' if number == 1 else 's'}"

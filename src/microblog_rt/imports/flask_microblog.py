"""What the tutorial's database holds, by the rules of this application: one function for each of its tables.

What these rules do not allow becomes different, with a note; what cannot be kept at all is a loss.
"""

import json
import re
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any

from microblog_rt import names, text
from microblog_rt.accounts import rules, werkzeug_hashes
from microblog_rt.errors import Invalid, Refused
from microblog_rt.imports import Import, NewNotification, counted
from microblog_rt.imports.tutorial_file import TutorialFile, moment
from microblog_rt.models import MESSAGE_CODE_POINTS
from microblog_rt.notifications import check
from microblog_rt.storage import sql_time
from microblog_rt.storage.counters import COUNTERS
from microblog_rt.storage.imports import NewMessage, NewUser

BEFORE_ALL = -(2**62)  # the time of a message without one

REASONS = {"username_format": "is not a valid name", "username_reserved": "is a reserved name"}
SHOWN = 64  # characters of what is not valid
KEPT_OF_NAME = 40  # characters, beside the id


async def read(file: TutorialFile) -> Import:
    """Everything in the file that this application has a place for."""
    found = Import({}, [], [], [], [], [])
    await _users(file, found)
    _messages(file, found)
    _notifications(file, found)
    _posts(file, found)
    _follows(file, found)
    _others(file, found)
    return found


async def _users(file: TutorialFile, found: Import) -> None:
    rows = list(file.rows("user", "id", "username", "email", "password_hash", "last_seen"))
    usernames = await _usernames({row[0]: _text(row[1]) for row in rows}, found)
    for user_id, _, email, password_hash, last_seen in rows:
        name, address, hashed = usernames[user_id], _text(email).strip(), _text(password_hash)
        if any(rules.email_faults(address)) or not text.is_storable(address):
            found.notes.append(f"user {name}: the e-mail address {address[:SHOWN]!r} is not valid, and is left out")
            address = ""
        if not werkzeug_hashes.is_usable(hashed):
            found.notes.append(f"user {name}: no usable password; set one: microblog-rt user password {name}")
            hashed = ""
        found.users[user_id] = NewUser(name, address or None, hashed, moment(last_seen))


def _messages(file: TutorialFile, found: Import) -> None:
    """The messages, with timestamps in the order of their times, and the users' read marks.

    A timestamp is the message's time where possible: unique for its recipient, and not in the future, in which the
    recipient's clock would follow it.
    """
    rows = []
    for message_id, sender, recipient, body, time in file.rows(
        "message", "id", "sender_id", "recipient_id", "body", "timestamp"
    ):
        if sender not in found.users or recipient not in found.users:
            found.losses.append(f"message {message_id}: its sender or its recipient does not exist")
            continue
        kept = _body(body, message_id, found)
        if kept is None:
            continue
        created = moment(time)
        if created is None:
            found.notes.append(f"message {message_id}: without a valid time; it becomes the oldest")
        else:
            _seen(found.users[sender], created)
        created = BEFORE_ALL if created is None else created
        rows.append((recipient, created, message_id, sender, kept))
    read_up_to = {row[0]: moment(row[1]) for row in file.rows("user", "id", "last_message_read_time")}
    now = sql_time.now()
    stamped = []
    for recipient, created, message_id, sender, body in sorted(rows, key=itemgetter(0, 1, 2)):
        mailbox = found.users[recipient]
        mailbox.clock = max(mailbox.clock + 1, min(created, now))
        if created <= (read_up_to[recipient] or BEFORE_ALL):
            mailbox.read_up_to = mailbox.clock
        stamped.append((message_id, NewMessage(sender, recipient, body, mailbox.clock, max(created, 0))))
    found.messages = [message for _, message in sorted(stamped, key=itemgetter(0))]


def _notifications(file: TutorialFile, found: Import) -> None:
    """The latest of each user and name, oldest first; the counts are those of this application."""
    latest: dict[tuple[Any, str], tuple[float, int, str]] = {}
    for row_id, user_id, name, timestamp, payload in file.rows(
        "notification", "id", "user_id", "name", "timestamp", "payload_json"
    ):
        time = timestamp if isinstance(timestamp, int | float) else 0
        key, row = (user_id, _text(name)), (time, row_id, _text(payload))
        latest[key] = max(latest.get(key, row), row)
    computed = {counter.name for counter in COUNTERS}
    for (user_id, name), (_, row_id, payload) in sorted(latest.items(), key=itemgetter(1)):
        if name in computed:
            continue
        try:
            data = json.loads(payload)
            check(name, data)
            if user_id not in found.users or not text.is_storable(name):
                raise ValueError
            json.dumps(data, allow_nan=False)
        except (Refused, ValueError, RecursionError):
            found.notes.append(f"notification {row_id}, {name[:SHOWN]!r}: not valid here, and is left out")
        else:
            found.notifications.append(NewNotification(user_id, name, data))


def _posts(file: TutorialFile, found: Import) -> None:
    for _, author, time in file.rows("post", "id", "user_id", "timestamp"):
        if author in found.users:
            _seen(found.users[author], moment(time))
    _left(found, file.count("post"), "post")


def _follows(file: TutorialFile, found: Import) -> None:
    _left(found, file.count("followers"), "follow")


def _others(file: TutorialFile, found: Import) -> None:
    _left(found, file.count("user", "about_me <> ''"), "profile text")
    _left(found, file.count("user", "token IS NOT NULL"), "API token")
    _left(found, file.count("task"), "task")


def _left(found: Import, number: int, noun: str) -> None:
    if number:
        found.left.append(counted(number, noun))


def _seen(user: NewUser, time: int | None) -> None:
    """The user has been a member at that time."""
    if time is not None:
        user.member_since = time if user.member_since is None else min(time, user.member_since)


async def _usernames(wanted: Mapping[int, str], found: Import) -> dict[int, str]:
    """A name for each id: its own if it is allowed, and no lower id has the same in any case."""
    chosen: dict[int, str] = {}
    keys: set[str] = set()
    refused: dict[int, str] = {}
    for user_id, name in wanted.items():
        faults = await rules.name_faults(name)
        if faults or names.key(name) in keys:
            refused[user_id] = REASONS[faults[0].reason] if faults else "is the name of another user in other letters"
        else:
            chosen[user_id] = names.normalized(name)
            keys.add(names.key(name))
    for user_id, reason in refused.items():
        for name in _candidates(wanted[user_id], user_id):
            if names.key(name) not in keys and not await rules.name_faults(name):
                break
        chosen[user_id] = name
        keys.add(names.key(name))
        found.notes.append(f"user {wanted[user_id][:SHOWN]!r} becomes {name}: the name {reason}")
    _note_look_alikes(chosen, found)
    return {user_id: chosen[user_id] for user_id in wanted}


def _candidates(name: str, user_id: int) -> Iterator[str]:
    """The name as far as it is allowed, with the id; then names of which some are free."""
    kept = re.sub(r"[^\w.-]+", "_", names.normalized(name[: names.LONGEST]))[:KEPT_OF_NAME]
    yield f"{kept}_{user_id}"
    yield f"user_{user_id}"
    for number in range(2, 2**31):
        yield f"user_{user_id}_{number}"


def _note_look_alikes(chosen: Mapping[int, str], found: Import) -> None:
    seen: dict[str, str] = {}
    for name in chosen.values():
        other = seen.setdefault(names.skeleton(name), name)
        if other != name and names.look_alike(other, name):
            found.notes.append(f"user {name} looks like {other}; both keep their names")


def _body(body: Any, message_id: int, found: Import) -> str | None:
    """The text as a form stores it; as it is, if a form refuses it; None if it is too long to be stored."""
    kept = _text(body)
    if not text.is_storable(kept):
        found.notes.append(f"message {message_id}: characters that cannot be stored become \N{REPLACEMENT CHARACTER}")
        kept = text.NOT_STORABLE.sub("\N{REPLACEMENT CHARACTER}", kept)
    try:
        kept = text.checked(kept)
    except Invalid:
        if len(kept) > MESSAGE_CODE_POINTS:
            found.losses.append(f"message {message_id}: {len(kept)} characters, more than {MESSAGE_CODE_POINTS}")
            return None
    return kept


def _text(value: Any) -> str:
    """A value as text: SQLite stores any type in any column."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else "" if value is None else str(value)

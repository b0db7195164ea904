"""The invariants I1 to I4 and I8, checked against the ledger and the database when no request is in progress.

Each function returns the violations as sentences.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.http_connection import ERRORS
from tests.proof.host import Host
from tests.proof.ledger import Ledger
from tests.proof.tabs import COUNT, MARK, Tab
from tests.proof.workload import Workload

REPORTED = 5  # violations of one kind
POLLS = 200


class Truth(NamedTuple):
    """The database's content: messages as (recipient, body, timestamp, read) by id, and the state of each user."""

    messages: list[tuple[int, str, int, bool]]
    counts: dict[int, int]
    stored: dict[int, int]  # the stored unread counts; ``counts`` are counted anew
    rows: dict[int, dict[str, tuple[Any, int]]]  # notifications: data and timestamp by user and name


async def read(database: Any) -> Truth:
    """Read everything; only while there are no writes."""
    messages = await database.fetch(
        "SELECT recipient_id, body, timestamp, read OR timestamp <= last_message_read_time FROM message"
        " JOIN mailbox ON user_id = recipient_id ORDER BY id"
    )
    mailboxes = await database.fetch("SELECT user_id, unread_message_count FROM mailbox")
    stored = {each[0]: each[1] for each in mailboxes}
    counts = dict.fromkeys(stored, 0)
    for recipient, _, _, was_read in messages:
        counts[recipient] += not was_read
    rows: dict[int, dict[str, tuple[Any, int]]] = defaultdict(dict)
    for user, name, payload, timestamp in await database.fetch(
        "SELECT user_id, name, payload_json, timestamp FROM notification"
    ):
        rows[user][name] = (json.loads(payload), timestamp)
    return Truth([tuple(each) for each in messages], counts, stored, rows)


def tabs(every: Sequence[Tab], truth: Truth) -> list[str]:
    """I1: every tab shows the count in the database. I4: every tab shows the mark of its own user."""
    wrong = [
        f"I1: a {tab.kind} of {tab.person.name} shows {tab.state.get(COUNT, 0)}, not {truth.counts[tab.person.id]}"
        + ("" if tab.connected_at is not None else " (it is not connected)")
        for tab in every
        if not tab.shows(truth.counts[tab.person.id])
    ]
    wrong += [
        f"I4: a tab of {tab.person.id} shows {tab.state.get(MARK)}"
        for tab in every
        if tab.state.get(MARK) != {"of": tab.person.id}
    ]
    return wrong if len(wrong) <= REPORTED else [*wrong[:REPORTED], f"... {len(wrong)} tabs in all"]


def all_but_tabs(ledger: Ledger, truth: Truth) -> list[str]:
    """The invariants of everything that was acknowledged and displayed."""
    found = [
        counters(truth),
        stored_once(ledger, truth),
        order(ledger, truth),
        owners(ledger, truth),
        unread(ledger, truth),
    ]
    return [
        line
        for wrong in found
        for line in (wrong[:REPORTED] + ([f"... {len(wrong)} in all"] if wrong[REPORTED:] else []))
    ]


def counters(truth: Truth) -> list[str]:
    """I1: the stored count, the counted messages and the last notification agree."""
    wrong = []
    for user, count in truth.counts.items():
        notified = truth.rows[user].get(COUNT, (0, 0))[0]
        if not count == truth.stored[user] == notified:
            wrong.append(f"I1: user {user} has {count} unread, {truth.stored[user]} stored, {notified} notified")
    return wrong


def stored_once(ledger: Ledger, truth: Truth) -> list[str]:
    """I2: every acknowledged message is stored exactly once."""
    stored = Counter(body for _, body, _, _ in truth.messages)
    wrong = [
        f"I2: {send.body}: stored {stored[send.body]} times, acknowledged at {send.acknowledged}; {send.attempts}"
        for send in ledger.sends
        if stored[send.body] > 1 or (send.acknowledged is not None and not stored[send.body])
    ]
    unknown = stored.keys() - {send.body for send in ledger.sends}
    return wrong + [f"I2: {body} was never sent" for body in unknown]


def order(ledger: Ledger, truth: Truth) -> list[str]:
    """I3: timestamps increase with ids, and no message is at or behind a cursor that a tab held before the send."""
    wrong, newest = [], defaultdict[int, int](int)
    stamps = {}
    for user, body, timestamp, _ in truth.messages:
        stamps[body] = timestamp
        if timestamp <= newest[user]:
            wrong.append(f"I3: {body} is stamped {timestamp}, not after {newest[user]}")
        newest[user] = max(newest[user], timestamp)
    for send in ledger.sends:
        if send.body in stamps and stamps[send.body] <= send.cursor:
            wrong.append(f"I3: {send.body} appeared at {stamps[send.body]}, behind a cursor at {send.cursor}")
    return wrong


def owners(ledger: Ledger, truth: Truth) -> list[str]:
    """I4, and I1 over time: every displayed mark and count belongs to the user it was displayed to."""
    stamps: dict[int, dict[int, int]] = defaultdict(dict)
    for user, _, timestamp, _ in truth.messages:
        stamps[user][timestamp] = len(stamps[user]) + 1
    wrong = []
    for shown in ledger.shown:
        expected = stamps[shown.user].get(shown.timestamp)
        if shown.name == MARK and shown.data != json.dumps({"of": shown.user}):
            wrong.append(f"I4: user {shown.user} received {shown}")
        # For a user who never reads, each count is the number of messages up to its timestamp.
        if shown.name == COUNT and shown.user not in ledger.marks and expected != shown.data:
            wrong.append(f"I1, I4: user {shown.user} received {shown}; it had {expected}")
    return wrong


def unread(ledger: Ledger, truth: Truth) -> list[str]:
    """I8: only displayed messages are marked as read, and every acknowledged mark is stored."""
    wrong = []
    for user, body, timestamp, was_read in truth.messages:
        displayed = [mark for mark in ledger.marks.get(user, []) if mark.first <= timestamp <= mark.last]
        if was_read and not displayed:
            wrong.append(f"I8: {body} is read, but was not displayed")
        if not was_read and any(mark.acknowledged for mark in displayed):
            wrong.append(f"I8: {body} is unread, but its mark was acknowledged")
    return wrong


async def old_cursors(hosts: Sequence[Host], workload: Workload, truth: Truth) -> list[str]:
    """I3: a poll from an old cursor returns exactly the newer rows."""
    wrong = []
    pairs = [(user, since) for user, kept in workload.cursors.items() for since in kept]
    for user, since in random.sample(pairs, min(POLLS, len(pairs))):
        try:
            received = await workload.poll(random.choice(hosts), user, since)
        except ERRORS as error:
            wrong.append(f"I3: a poll after the faults failed: {error!r}")
            continue
        expected = sorted((stamp, name, data) for name, (data, stamp) in truth.rows[user].items() if stamp > since)
        if received != expected:
            wrong.append(f"I3: user {user} polled from {since} and received {received}, not {expected}")
    return wrong[:REPORTED]

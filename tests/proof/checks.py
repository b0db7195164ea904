"""What must be true once all is quiet: I1 to I4 and I8 of everything the ledger holds, against the database itself.

Each function returns what is wrong, in sentences; nothing wrong, an empty list.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.proof.host import Host
from tests.proof.http import TROUBLE
from tests.proof.ledger import Ledger
from tests.proof.tabs import COUNT, MARK, Tab
from tests.proof.workload import Doing

SAID = 5  # of many that are wrong in one way
POLLS = 200


class Truth(NamedTuple):
    """The database: messages as (recipient, body, timestamp) in the order of their rows, and each user's state."""

    messages: list[tuple[int, str, int]]
    counts: dict[int, int]
    kept: dict[int, int]  # the counter that is maintained
    marks: dict[int, int]
    rows: dict[int, dict[str, tuple[Any, int]]]  # what stands, by user and name


async def read(database: Any) -> Truth:
    """What the database says, when nobody writes."""
    messages = await database.fetch("SELECT recipient_id, body, timestamp FROM message ORDER BY id")
    mailboxes = await database.fetch("SELECT user_id, last_message_read_time, unread_message_count FROM mailbox")
    marks = {each[0]: each[1] for each in mailboxes}
    counts = dict.fromkeys(marks, 0)
    for recipient, _, timestamp in messages:
        counts[recipient] += timestamp > marks[recipient]
    rows: dict[int, dict[str, tuple[Any, int]]] = defaultdict(dict)
    for user, name, payload, timestamp in await database.fetch(
        "SELECT user_id, name, payload_json, timestamp FROM notification"
    ):
        rows[user][name] = (json.loads(payload), timestamp)
    return Truth([tuple(each) for each in messages], counts, {each[0]: each[2] for each in mailboxes}, marks, rows)


def tabs(every: Sequence[Tab], truth: Truth) -> list[str]:
    """I1: every tab shows the database's count; I4: and the mark of its own user."""
    wrong = [
        f"I1: a {tab.kind} of {tab.person.name} shows {tab.state.get(COUNT, 0)}, not {truth.counts[tab.person.id]}"
        + ("" if tab.there is not None else " (it is not connected)")
        for tab in every
        if not tab.shows(truth.counts[tab.person.id])
    ]
    wrong += [
        f"I4: a tab of {tab.person.id} shows {tab.state.get(MARK)}"
        for tab in every
        if tab.state.get(MARK) != {"of": tab.person.id}
    ]
    return wrong if len(wrong) <= SAID else [*wrong[:SAID], f"... {len(wrong)} tabs in all"]


def all_but_tabs(ledger: Ledger, truth: Truth) -> list[str]:
    """The rest, of all that was ever acknowledged and shown."""
    found = [counters(truth), once(ledger, truth), order(ledger, truth), whose(ledger, truth), unread(ledger, truth)]
    return [line for wrong in found for line in (wrong[:SAID] + ([f"... {len(wrong)} in all"] if wrong[SAID:] else []))]


def counters(truth: Truth) -> list[str]:
    """I1: what is maintained is what is there, and what was told last."""
    wrong = []
    for user, count in truth.counts.items():
        told = truth.rows[user].get(COUNT, (0, 0))[0]
        if not count == truth.kept[user] == told:
            wrong.append(f"I1: user {user} has {count} unread, a counter of {truth.kept[user]}, and was told {told}")
    return wrong


def once(ledger: Ledger, truth: Truth) -> list[str]:
    """I2: every message that was acknowledged (in the end, all of them) is there exactly once."""
    there = Counter(body for _, body, _ in truth.messages)
    wrong = [
        f"I2: {send.body}: {there[send.body]} times there, acknowledged at {send.acknowledged}; {send.attempts}"
        for send in ledger.sends
        if there[send.body] > 1 or (send.acknowledged is not None and not there[send.body])
    ]
    unknown = there.keys() - {send.body for send in ledger.sends}
    return wrong + [f"I2: nobody sent {body}" for body in unknown]


def order(ledger: Ledger, truth: Truth) -> list[str]:
    """I3: timestamps grow as rows do, and no message is at or behind a cursor that a tab held before it was sent."""
    wrong, newest = [], defaultdict[int, int](int)
    stamps = {}
    for user, body, timestamp in truth.messages:
        stamps[body] = timestamp
        if timestamp <= newest[user]:
            wrong.append(f"I3: {body} is stamped {timestamp}, not after {newest[user]}")
        newest[user] = max(newest[user], timestamp)
    for send in ledger.sends:
        if send.body in stamps and stamps[send.body] <= send.cursor:
            wrong.append(f"I3: {send.body} appeared at {stamps[send.body]}, behind a cursor at {send.cursor}")
    return wrong


def whose(ledger: Ledger, truth: Truth) -> list[str]:
    """I4, and I1 of the past: every mark shown was that user's, every count shown was true of that user's messages."""
    stamps: dict[int, dict[int, int]] = defaultdict(dict)
    for user, _, timestamp in truth.messages:
        stamps[user][timestamp] = len(stamps[user]) + 1
    wrong = []
    for shown in ledger.shown:
        there = stamps[shown.user].get(shown.timestamp)
        if shown.name == MARK and shown.data != json.dumps({"of": shown.user}):
            wrong.append(f"I4: user {shown.user} was told {shown}")
        # Of whoever never reads, each count is the number of messages up to that one.
        if shown.name == COUNT and not truth.marks[shown.user] and there != shown.data:
            wrong.append(f"I1, I4: user {shown.user} was told {shown}; it had {there}")
    return wrong


def unread(ledger: Ledger, truth: Truth) -> list[str]:
    """I8: nothing newer than what was shown is marked as read, and what was acknowledged as read is."""
    wrong = []
    for user, marks in ledger.marked.items():
        least = max((up_to for up_to, acknowledged in marks if acknowledged), default=0)
        most = max(up_to for up_to, _ in marks)
        if not least <= truth.marks[user] <= most:
            wrong.append(f"I8: user {user} is marked up to {truth.marks[user]}; shown {most}, acknowledged {least}")
    wrong += [
        f"I8: user {user} is marked up to {mark}, and never read"
        for user, mark in truth.marks.items()
        if mark and user not in ledger.marked
    ]
    return wrong


async def old_cursors(hosts: Sequence[Host], doing: Doing, truth: Truth) -> list[str]:
    """I3: a poll from any old cursor tells exactly the rows that are newer."""
    wrong = []
    pairs = [(user, since) for user, kept in doing.cursors.items() for since in kept]
    for user, since in random.sample(pairs, min(POLLS, len(pairs))):
        try:
            told = await doing.poll(random.choice(hosts), user, since)
        except TROUBLE as error:
            wrong.append(f"I3: a poll in quiet failed: {error!r}")
            continue
        there = sorted((stamp, name, data) for name, (data, stamp) in truth.rows[user].items() if stamp > since)
        if told != there:
            wrong.append(f"I3: user {user} asked from {since} and was told {told}, not {there}")
    return wrong[:SAID]

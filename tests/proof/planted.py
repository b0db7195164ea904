"""Planted bugs: each replaces one object of the running product, and one named test must fail because of it.

``apply(name)`` plants one in this process. Processes started with ``environment(name)`` plant it before they run.
See also: ``test_planted.py``, which runs the named tests.
"""

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from microblog_rt import hub, mailboxes
from microblog_rt.bus import BusEvent, Gap
from microblog_rt.bus.redis import RedisBus
from microblog_rt.feed import Feed, Stream
from microblog_rt.models import Mailbox
from microblog_rt.protocol import FURTHEST, Signal
from microblog_rt.storage import Storage
from microblog_rt.storage import mailboxes as rows
from microblog_rt.storage.counters import COUNTERS
from microblog_rt.storage.send import Outgoing
from microblog_rt.storage.sql_time import now
from microblog_rt.web import forms, hosts, origins
from microblog_rt.web.admission import Admission, parse

VARIABLE = "PROOF_PLANT"
BEFORE: ContextVar[int] = ContextVar("BEFORE")  # the lock: the time, or the count
STARTUP = Path(__file__).with_name("startup")  # its sitecustomize.py runs first in every Python process


def replace(owner: Any, name: str, value: Any) -> Any:
    """Set ``owner.name`` and return what it was. Raises AssertionError if ``owner`` does not define it."""
    assert name in vars(owner), f"update the planted bug: {owner.__name__} has no {name}"
    before = getattr(owner, name)
    setattr(owner, name, value)
    return before


def publish_before_commit() -> None:
    """Signals are delivered before the transaction commits."""

    async def write(
        self: Storage, work: Callable[..., Any], after_commit: Callable[[], None] | None = None, **options: Any
    ) -> Any:
        loop = asyncio.get_running_loop()

        def run(tx: Any) -> Any:
            result = work(tx)
            if after_commit is not None:
                loop.call_soon_threadsafe(after_commit)
            return result

        return await original(self, run, **options)

    original = replace(Storage, "write", write)


def time_cursor() -> None:
    """A message is stamped with the time from before the lock, not with the mailbox clock."""

    async def send(self: mailboxes.Mailboxes, outgoing: Outgoing) -> Any:
        BEFORE.set(now())
        return await original(self, outgoing)

    def counted(*arguments: Any, **options: Any) -> Any:
        return count(*arguments, **options)._replace(clock=BEFORE.get())

    count = replace(rows, "count", counted)
    original = replace(mailboxes.Mailboxes, "send", send)


def count_before_lock() -> None:
    """The unread count is read before the mailbox is locked, and incremented from there."""

    async def send(self: mailboxes.Mailboxes, outgoing: Outgoing) -> Any:
        async with self._storage.reading() as reading:
            counter = select(Mailbox.unread_message_count).where(Mailbox.user_id == outgoing.recipient)
            before = await reading.scalar(counter)
        BEFORE.set(before or 0)
        return await original(self, outgoing)

    def counted(*arguments: Any, **options: Any) -> Any:
        return count(*arguments, **options)._replace(value=BEFORE.get() + 1)

    count = replace(rows, "count", counted)
    original = replace(mailboxes.Mailboxes, "send", send)


def constant_count() -> None:
    """Marking as read sets the count to 0 instead of counting what is left."""
    statements = {
        each: rows._counting(each, 0).values({each.mark: rows.MARK}).where(each.mark < rows.MARK) for each in COUNTERS
    }
    replace(rows, "MARK_READ", statements)


def no_gap() -> None:
    """A bus that had to connect again does not report that it may have lost signals."""

    async def events(self: RedisBus) -> AsyncGenerator[BusEvent]:
        async with aclosing(original(self)) as found:
            async for event in found:
                if not isinstance(event, Gap):
                    yield event

    original = replace(RedisBus, "events", events)


def no_sweep() -> None:
    """The sweep queries the clocks and signals no subscriber."""

    async def sweep_once(self: Feed) -> None:
        self._hub.positions()

    replace(Feed, "sweep_once", sweep_once)


def no_origin_check() -> None:
    """Requests from pages of every origin are accepted."""
    for module in (hosts, forms, origins):
        replace(module, "check_origin", lambda *_, **__: None)


def subscribe_after_read() -> None:
    """Signals that arrive during a read are treated as answered by it."""

    def answer(self: Stream, page: Any) -> None:
        self.begin_read()
        original(self, page)

    original = replace(Stream, "answer", answer)


def unbounded_pending() -> None:
    """The notifications kept for a slow subscriber are not limited."""

    def deliver(self: hub.Subscriber, signal: Signal) -> None:
        hub.NAMES_KEPT = sys.maxsize  # now, after the test has imported the real limit
        original(self, signal)

    assert hub.NAMES_KEPT
    original = replace(hub.Subscriber, "deliver", deliver)


def acknowledge_before_commit() -> None:
    """A send is acknowledged before its transaction commits."""
    tasks = set()

    async def change(self: mailboxes.Mailboxes, user_ids: Any, work: Callable[..., Any], **options: Any) -> Any:
        tasks.add(asyncio.create_task(original(self, user_ids, work, **options)))
        return [None]

    original = replace(mailboxes.Mailboxes, "change", change)


def channel_from_client() -> None:
    """A client is subscribed to the user in its query, not to the user of its session."""

    def admitted(self: Admission, scope: Any, **options: Any) -> Any:
        asked = parse(scope["query_string"], scope["headers"]).user
        rest = re.sub(rb"&?user=[^&]*", b"", scope["query_string"])
        reader, query = original(self, {**scope, "query_string": rest}, **options)
        return (reader if asked is None else reader._replace(user_id=int(asked))), query

    original = replace(Admission, "admit", admitted)


def mark_everything() -> None:
    """Marking as read marks everything that exists, not what was displayed."""

    def mark_read(tx: Any, user_id: int, counter: Any, first: int, last: int, ahead: int) -> Any:
        return original(tx, user_id, counter, 0, FURTHEST, ahead)

    original = replace(rows, "mark_read", mark_read)


@dataclass(frozen=True)
class Plant:
    """``apply`` plants the bug, and the test ``caught_by`` fails."""

    apply: Callable[[], None]
    caught_by: str

    @property
    def name(self) -> str:
        """The name of the function that applies it."""
        return self.apply.__name__


PLANTS = [
    Plant(publish_before_commit, "tests/test_messages.py::test_signals_are_delivered_after_the_commit[sqlite]"),
    Plant(time_cursor, "tests/test_interleavings.py::test_send_that_waited_gets_the_newer_timestamp[sqlite]"),
    Plant(count_before_lock, "tests/test_interleavings.py::test_concurrent_sends_are_both_counted[sqlite]"),
    Plant(constant_count, "tests/test_messages.py::test_messages_newer_than_the_shown_page_stay_unread[sqlite]"),
    Plant(no_gap, "tests/bus/test_every_bus.py::test_gap_precedes_signals_of_the_new_connection[redis]"),
    Plant(no_sweep, "tests/test_feed.py::test_sweep_signals_only_users_who_are_behind[sqlite]"),
    Plant(no_origin_check, "tests/test_origins.py::test_foreign_origin_is_refused[websocket-http://evil.example]"),
    Plant(subscribe_after_read, "tests/test_feed.py::test_commit_during_the_first_read_is_delivered[sqlite]"),
    Plant(unbounded_pending, "tests/test_hub.py::test_pending_notifications_are_bounded"),
    Plant(acknowledge_before_commit, "tests/test_messages.py::test_services_return_after_the_commit[sqlite]"),
    Plant(
        channel_from_client,
        "tests/web/test_subscribed_user.py::test_only_the_session_selects_the_subscribed_user[sqlite]",
    ),
    Plant(mark_everything, "tests/test_interleavings.py::test_mark_read_never_hides_a_newer_message[sqlite]"),
]


def apply(name: str) -> None:
    """Plant the bug ``name`` in this process."""
    (plant,) = [each for each in PLANTS if each.name == name]
    plant.apply()


def environment(name: str, python_path: Path) -> dict[str, str]:
    """The variables with which a Python process plants ``name`` when it starts."""
    paths = [STARTUP, python_path, STARTUP.parents[2]]
    return {VARIABLE: name, "PYTHONPATH": os.pathsep.join(map(str, paths))}

"""Twelve bugs, each of which one named test must catch (goals.md, row 16); and a test build with one of them in it.

A test build is a copy of the product in a folder of its own, with one piece of one file replaced. Nothing of this is
in the product. Not here: that they are caught (``test_planted.py``).
"""

import shutil
from pathlib import Path
from typing import NamedTuple

from microblog_rt import files

ROOT = files.CHECKOUT
BESIDE = ["static", "templates", "alembic", "hypercorn.toml"]


class Plant(NamedTuple):
    """In ``file``, ``sound`` becomes ``broken``, which is ``wrong``; the test ``caught_by`` fails there."""

    name: str
    wrong: str
    file: str
    sound: str
    broken: str
    caught_by: str


PLANTS = [
    Plant(
        "publish before commit",
        "The recipient is told of a message while its transaction is still open.",
        "messages.py",
        """
                await self._notifications.stage(tx, signal)
        except rows.AlreadySent:
""",
        """
                await self._notifications.tell(signal)
        except rows.AlreadySent:
""",
        "tests/test_messages.py::test_nobody_is_told_before_the_commit[sqlite]",
    ),
    Plant(
        "time() cursor",
        "A message and its notification bear the wall clock's time from before the lock, not the mailbox clock's.",
        "messages.py",
        """
            async with self._storage.transaction() as tx:
                tick = await clock.tick(tx, recipient_id, unread=1)
""",
        """
            moment = __import__("time").time_ns() // 1000
            async with self._storage.transaction() as tx:
                tick = (await clock.tick(tx, recipient_id, unread=1))._replace(clock=moment)
""",
        "tests/test_interleavings.py::test_a_send_that_waited_for_another_is_newer_than_it[sqlite]",
    ),
    Plant(
        "count before lock",
        "The unread count is read before the mailbox is locked, and told one higher.",
        "messages.py",
        """
            async with self._storage.transaction() as tx:
                tick = await clock.tick(tx, recipient_id, unread=1)
""",
        """
            async with self._storage.feed_read() as look:
                before, _, _ = await told.standing(look, recipient_id)
            async with self._storage.transaction() as tx:
                tick = (await clock.tick(tx, recipient_id, unread=1))._replace(unread_message_count=before + 1)
""",
        "tests/test_interleavings.py::test_sends_at_once_are_both_counted[sqlite]",
    ),
    Plant(
        "constant 0",
        "Marking as read sets the count to 0 instead of counting what is left.",
        "storage/messages.py",
        ".values(unread_message_count=UNREAD)",
        ".values(unread_message_count=0)",
        "tests/test_messages.py::test_a_mark_hides_nothing_newer_than_what_was_shown[sqlite]",
    ),
    Plant(
        "no Gap",
        "A bus that had to subscribe again does not say that it may have missed something.",
        "bus/redis.py",
        "return [Gap(), *events] if reconnected else events",
        "return events",
        "tests/bus/test_every_bus.py::test_gap_precedes_signals_of_the_new_connection[redis]",
    ),
    Plant(
        "no sweep",
        "The sweep looks, and signals nobody.",
        "feed.py",
        "if reached > positions[user_id]:",
        "if False:",
        "tests/test_feed.py::test_the_sweep_wakes_whoever_is_behind[sqlite]",
    ),
    Plant(
        "no Origin check",
        "Whatever page a request comes from, it is taken for ours.",
        "web/hosts.py",
        "if origins != [own] and (origins or required):",
        "if False:",
        "tests/test_origins.py::test_a_foreign_origin_is_refused[websocket-http://evil.example]",
    ),
    Plant(
        "no recheck after register",
        "A tab counts as listening only once its first read is over; what came meanwhile is taken for read.",
        "feed.py",
        """
        subscriber.begin_read()
        page = await self._read(reader, since, names)
""",
        """
        page = await self._read(reader, since, names)
        subscriber.begin_read()
""",
        "tests/test_feed.py::test_what_is_committed_during_the_first_read_is_told[sqlite]",
    ),
    Plant(
        "unbounded publish_queue",
        "What waits for a tab that takes nothing grows with what it is told.",
        "hub.py",
        " or len(self._kept) == NAMES_KEPT",
        "",
        "tests/test_hub.py::test_what_a_slow_reader_holds_is_bounded",
    ),
    Plant(
        "acknowledge before commit",
        "Sending is begun, and called done.",
        "messages.py",
        "return await self._storage.finish(self._send(sender_id, recipient_id, body, key))",
        "return bool(self._storage.begin(self._send(sender_id, recipient_id, body, key)))",
        "tests/test_messages.py::test_what_is_acknowledged_is_committed[sqlite]",
    ),
    Plant(
        "channel from client input",
        "A client listens to the user it names, not to the one whose session it has.",
        "web/notifications.py",
        """
        if query.user is not None and query.user != str(reader.user_id):
            raise SignedOut
""",
        """
        if query.user is not None:
            reader = reader._replace(user_id=int(query.user))
""",
        "tests/web/test_subscribed_user.py::test_only_the_session_selects_the_subscribed_user[sqlite]",
    ),
    Plant(
        "read marks now()",
        "Reading marks everything that is there by now, not what was shown.",
        "messages.py",
        "await clock.tick_to_mark(tx, user_id, up_to)",
        "await clock.tick_to_mark(tx, user_id, __import__('time').time_ns() // 1000)",
        "tests/test_interleavings.py::test_a_reader_never_hides_a_message_that_came_after[sqlite]",
    ),
]


def copied(folder: Path) -> Path:
    """The product as it is, in ``folder``."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        (folder / name).symlink_to(ROOT / name)
    return folder


def broken(folder: Path, plant: Plant) -> Path:
    """A test build in ``folder``: the product with that one bug in it."""
    file = copied(folder) / "src" / "microblog_rt" / plant.file
    text = file.read_text()
    found = text.count(plant.sound)
    assert found == 1, f"mend the plant {plant.name!r}: {plant.file} holds its piece {found} times:\n{plant.sound}"
    file.write_text(text.replace(plant.sound, plant.broken))
    return folder

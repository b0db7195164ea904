"""Sends, polls and pages of an inbox with a million messages, against one with a page of them."""

import asyncio
import sqlite3

from tests.server_process import Server

from benchmarks import meter
from benchmarks.browser import connected, sender
from benchmarks.poll import polls
from benchmarks.results import Figure
from benchmarks.world import Person, World

UNREAD, FEW = 100_000, 25
PAGE_SIZE = 25
SENDS, POLLS, VIEWS = 100, 500, 60
GOAL, GOAL_PAGE = 1.1, 1.2  # times

# Messages of the past, one a millisecond, of which the newest are unread.
INSERT = """
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
INSERT INTO message (sender_id, recipient_id, body, timestamp, created, read)
SELECT :sender, :recipient, 'no. ' || n, clock - (:count - n) * 1000, clock, 0
FROM number, (SELECT clock FROM mailbox WHERE user_id = :recipient)
"""
READ = """
UPDATE mailbox SET unread_message_count = :unread, last_message_read_time = clock - :unread * 1000
WHERE user_id = :recipient
"""
USER = "SELECT id FROM user WHERE username = ?"


def run(world: World) -> list[Figure]:
    """Fill the inbox of one user, and compare with another's."""
    many, few = world.subscribers[:2]
    with world.copy() as database:
        with sqlite3.connect(world.folder / "microblog.db", isolation_level=None) as connection:
            for person, count in ((many, world.sizes.messages), (few, FEW)):
                _fill(connection, world.senders[0].name, person.name, count)
            connection.execute("ANALYZE")
            oldest = _start_of_page(connection, many.name, _later(world))
        connection.close()
        with world.another(**database) as (server, pid):
            return asyncio.run(_measured(server, pid, world, oldest))


def _fill(connection: sqlite3.Connection, sender_name: str, name: str, count: int) -> None:
    (author,), (recipient,) = (connection.execute(USER, (each,)).fetchone() for each in (sender_name, name))
    values = {"count": count, "sender": author, "recipient": recipient, "unread": min(UNREAD, count)}
    connection.execute(INSERT, values)
    connection.execute(READ, values)


def _start_of_page(connection: sqlite3.Connection, name: str, page: int) -> str:
    """The path of the page that is reached by turning that many pages."""
    query = "SELECT timestamp FROM message WHERE recipient_id = ? ORDER BY timestamp DESC LIMIT 1 OFFSET ?"
    (recipient,) = connection.execute(USER, (name,)).fetchone()
    (timestamp,) = connection.execute(query, (recipient, PAGE_SIZE * (page - 1) - 1)).fetchone()
    return f"/messages?before={timestamp / 1e6:.6f}"


def _later(world: World) -> int:
    """The number of the page that is compared with the first: 10,000 with a million messages."""
    return world.sizes.messages // 100


async def _measured(server: Server, pid: int, world: World, page: str) -> list[Figure]:
    many, few = world.subscribers[:2]
    used: dict[str, list[float]] = {}
    async with sender(server.port, world.senders[0]) as message_sender:
        for _ in range(world.sizes.rounds):  # alternately, because the speed of a machine changes
            for name, person in (("many", many), ("few", few)):
                watch = meter.Stopwatch(pid)
                for _ in range(SENDS):
                    await message_sender.send(person.name)
                used.setdefault(f"send {name}", []).append(watch.used().server)
                used.setdefault(f"poll {name}", []).append((await polls(server.port, pid, person, POLLS)).server)
            for name, path in (("first", "/messages?list=received"), ("later", page)):
                used.setdefault(name, []).append(await _viewed(server, pid, many, path))
    send, poll, turned = (
        sum(used[high]) / sum(used[low])
        for high, low in (("send many", "send few"), ("poll many", "poll few"), ("later", "first"))
    )
    later = _later(world)
    label = f"CPU with {world.sizes.messages:,} messages, {min(UNREAD, world.sizes.messages):,} unread, against {FEW}"
    return [
        Figure(f"{label}: a send", "times", send, GOAL),
        Figure("  ... a poll with nothing new", "times", poll, GOAL),
        Figure(f"  page {later:,} of the inbox against page 1", "times", turned, GOAL_PAGE),
    ]


async def _viewed(server: Server, pid: int, person: Person, path: str) -> float:
    with connected(server.port) as browser:
        watch = meter.Stopwatch(pid)
        for _ in range(VIEWS):
            answer = await browser.get(path, person.cookie)
            assert answer.body.count(b"no. ") >= PAGE_SIZE, answer
        return watch.used().server

"""Ordering on SQLite: whatever the interleaving, the count, the rows and what a poller has seen agree."""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from microblog_rt.accounts import Reader, token_hash
from microblog_rt.app import Parts, assemble
from microblog_rt.models import Mailbox, Message, Notification
from microblog_rt.protocol import UNREAD_MESSAGE_COUNT, Notice, cursor_of
from microblog_rt.settings import Settings
from tests.conftest import PASSWORD
from tests.interleaving import BEGIN, DONE, Actor, Script, every_interleaving

SUSAN, JOHN = 1, 2
UNREAD_AT_FIRST = 1


@pytest.fixture
async def template(settings: Settings) -> Path:
    """A database with two people; susan has one unread message, and is signed in."""
    parts = assemble(settings)
    for name in ("susan", "john"):
        await parts.accounts.register(name, PASSWORD)
    await parts.messages.send_message(JOHN, SUSAN, "the first")
    await parts.storage.close()
    assert settings.sqlite_file is not None
    with sqlite3.connect(settings.sqlite_file) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute(
            "INSERT INTO session (token_hash, user_id, remembered, created, last_used, expires)"
            " VALUES (?, 1, 1, 0, 9000000000000000, 9000000000000000)",
            (token_hash("token"),),
        )
    database.close()
    return settings.sqlite_file


READER = Reader(SUSAN, token_hash("token"))


class Poller:
    """The original's client: it applies what it is told, and asks on from the last timestamp."""

    def __init__(self) -> None:
        self.since = 0
        self.state: dict[str, int] = {}
        self.stamps: list[int] = []

    def apply(self, notices: list[Notice]) -> None:
        for each in notices:
            self.state[each.name] = each.data
            self.stamps.append(each.timestamp)
            self.since = each.timestamp

    def polls(self, times: int) -> Script:
        async def script(parts: Parts) -> None:
            for _ in range(times):
                self.apply(await parts.feed.page(READER, self.since))

        return script


def send(text: str) -> Script:
    async def script(parts: Parts) -> None:
        await parts.messages.send_message(JOHN, SUSAN, text)

    return script


async def truth(parts: Parts) -> tuple[int, int, list[Message]]:
    """What the database says: the counter, the count of rows after the mark, all messages."""
    async with parts.storage.reading() as reading:
        mailbox = (await reading.execute(select(Mailbox).where(Mailbox.user_id == SUSAN))).scalar_one()
        after_mark = Message.timestamp > mailbox.last_message_read_time
        counted = await reading.scalar(
            select(func.count()).select_from(Message).where(Message.recipient_id == SUSAN, after_mark)
        )
        messages = (await reading.execute(select(Message).order_by(Message.timestamp))).scalars().all()
        told = (await reading.execute(select(Notification))).scalars().all()
    assert [each.get_data() for each in told if each.user_id == SUSAN] == [mailbox.unread_message_count]
    return mailbox.unread_message_count, counted or 0, list(messages)


def check_with(poller: Poller, unread: Callable[[list[Message]], int]) -> Callable[[Parts], Awaitable[None]]:
    async def check(parts: Parts) -> None:
        counter, counted, messages = await truth(parts)
        assert counter == counted == unread(messages)
        poller.apply(await parts.feed.page(READER, poller.since))
        assert poller.state == {UNREAD_MESSAGE_COUNT: counter}
        assert poller.stamps == sorted(set(poller.stamps))

    return check


async def everybody(
    template: Path, make: Callable[[Poller], list[Script]], unread: Callable[[list[Message]], int]
) -> int:
    """Run all interleavings of what ``make`` makes around a poller of each run's own."""
    current = Poller()

    def scripts() -> list[Script]:
        current.__init__()  # type: ignore[misc]
        return make(current)

    return await every_interleaving(template, scripts, check_with(current, unread))


async def test_sends_at_once_are_both_counted(template: Path) -> None:
    """send‖send: the naive counterpart publishes 1 twice."""
    runs = await everybody(template, lambda _: [send("a"), send("b")], lambda _: UNREAD_AT_FIRST + 2)
    assert runs >= 2


async def test_a_poller_misses_nothing_of_a_send(template: Path) -> None:
    """send‖poll, three polls deep: the poller sees each state at most once, and ends with the last."""
    runs = await everybody(template, lambda poller: [send("a"), poller.polls(3)], lambda _: UNREAD_AT_FIRST + 1)
    assert runs > 50


async def test_a_poller_misses_nothing_of_two_sends(template: Path) -> None:
    """send‖send‖poll: nothing is committed behind the poller's cursor."""
    runs = await everybody(
        template, lambda poller: [send("a"), send("b"), poller.polls(2)], lambda _: UNREAD_AT_FIRST + 2
    )
    assert runs > 50


async def test_a_send_that_waited_for_another_is_newer_than_it(template: Path, settings: Settings) -> None:
    """A time taken before the lock is older: a poller that has seen the other would never see this one."""
    waiting, other = Actor(template, send("a")), Actor(template, send("b"))
    for actor in (waiting, other):
        actor.begin()
        await actor.arrived()
    assert waiting.next is other.next is BEGIN
    poller, parts = Poller(), assemble(settings)
    for unread, actor in enumerate((other, waiting), UNREAD_AT_FIRST + 1):
        while actor.next is not DONE:
            await actor.step()
        await actor.end()
        poller.apply(await parts.feed.page(READER, poller.since))
        assert poller.state == {UNREAD_MESSAGE_COUNT: unread}
    await parts.storage.close()


def read_what_is_shown(shown: list[str]) -> Script:
    async def script(parts: Parts) -> None:
        posts, _ = await parts.messages.inbox(SUSAN, 1, 25)
        shown[:] = [post.body for post in posts]
        await parts.messages.mark_read(SUSAN, cursor_of(posts[0].timestamp))

    return script


async def test_a_reader_never_hides_a_message_that_came_after(template: Path) -> None:
    """send‖read: what was not on the page stays unread, whenever it came."""
    shown: list[str] = []
    runs = await everybody(
        template,
        lambda _: [send("a"), read_what_is_shown(shown)],
        lambda messages: sum(message.body not in shown for message in messages),
    )
    assert runs > 5


async def test_two_tabs_that_mark_commute(template: Path) -> None:
    """read‖read: the marks of two tabs leave unread what neither has shown, in whatever order."""
    one: list[str] = []
    two: list[str] = []
    runs = await everybody(
        template,
        lambda _: [read_what_is_shown(one), send_then(read_what_is_shown(two))],
        lambda messages: sum(message.body not in {*one, *two} for message in messages),
    )
    assert runs > 20


def send_then(script: Script) -> Script:
    async def both(parts: Parts) -> None:
        await parts.messages.send_message(JOHN, SUSAN, "between")
        await script(parts)

    return both


async def test_the_write_lock_that_the_schedules_assume_is_real(template: Path) -> None:
    """While one transaction is open, even before its first change, another cannot begin."""
    parts = assemble(Settings(database_url=f"sqlite+aiosqlite:///{template}", secret_key="0123456789abcdef"))
    async with parts.storage.transaction() as tx:
        assert tx.in_transaction()
        other = sqlite3.connect(template, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
    await parts.storage.close()

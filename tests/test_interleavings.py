"""Ordering on both databases: in every interleaving the counter, the rows and the state of a poller agree."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, not_, select, update

from microblog_rt import models
from microblog_rt.accounts import Reader, token_hash
from microblog_rt.errors import KeyReused, Refused, SignedOut
from microblog_rt.feed.watches import Watches
from microblog_rt.mailboxes import Change
from microblog_rt.models import Mailbox, Message, Session, User
from microblog_rt.protocol import MICROSECONDS, Notification
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import Transaction
from microblog_rt.storage import accounts as rows
from microblog_rt.storage.prepared import Prepared
from tests.conftest import PASSWORD
from tests.interleaving import (
    BEGIN,
    COMMIT,
    DONE,
    Actor,
    Backend,
    PostgreSQLBackend,
    Script,
    SQLiteBackend,
    every_interleaving,
    every_pause,
)

SUSAN, JOHN = 1, 2
INITIALLY_UNREAD = 1
SAMPLE = 60


@pytest.fixture(autouse=True)
def gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared statements have gates too, since SQLAlchemy executes them; every poll reads."""

    def row(self: Prepared, tx: Transaction, values: Mapping[str, Any]) -> Any:
        result = tx.execute(self.statement, values)
        return result.first() if result.returns_rows else None

    monkeypatch.setattr(Prepared, "row", row)
    monkeypatch.setattr(Watches, "page", lambda *_: None)


@pytest.fixture
def susan_follows() -> bool:
    """Whether susan follows john in the initial state; tests override it with parametrize."""
    return False


@pytest.fixture
async def backend(settings: Settings, request: pytest.FixtureRequest, susan_follows: bool) -> AsyncIterator[Backend]:
    """A database with two users; susan has one unread message and is signed in."""
    at_most = None if request.config.getoption("--proof") else SAMPLE
    services = assemble(settings)
    for name in ("susan", "john"):
        await services.accounts.register(name, PASSWORD)
    await services.messages.send_message(JOHN, SUSAN, "the first")
    if susan_follows:
        await follow(services)
    await services.storage.write(lambda tx: rows.add_session(tx, SUSAN, READER.token_hash, True, 3600 * MICROSECONDS))
    # Polls then store no session use.
    await services.storage.write(lambda tx: tx.execute(update(Session).values(last_used=Session.expires)))
    await services.storage.close()
    if settings.sqlite_file is None:
        async with PostgreSQLBackend.opened(settings.database_url, at_most) as tables:
            yield tables
    else:
        with closing(sqlite3.connect(settings.sqlite_file)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        yield SQLiteBackend(settings.sqlite_file, at_most)


READER = Reader(SUSAN, token_hash("token"))


class Poller:
    """The original client: applies notifications and polls from the last timestamp."""

    def __init__(self) -> None:
        self.since = 0
        self.state: dict[str, int] = {}
        self.stamps: list[int] = []

    def apply(self, notifications: list[Notification]) -> None:
        for each in notifications:
            self.state[each.name] = each.data
            self.stamps.append(each.timestamp)
            self.since = each.timestamp

    def polls(self, times: int) -> Script:
        async def script(services: Services) -> None:
            for _ in range(times):
                self.apply(await services.feed.page(READER, self.since))

        return script


def send(text: str) -> Script:
    async def script(services: Services) -> None:
        await services.messages.send_message(JOHN, SUSAN, text)

    return script


async def stored_state(services: Services) -> tuple[int, int, list[Message]]:
    """From the database: the counter, the number of messages after the mark, all messages."""
    async with services.storage.reading() as reading:
        mailbox = (await reading.execute(select(Mailbox).where(Mailbox.user_id == SUSAN))).scalar_one()
        after_mark = Message.timestamp > mailbox.last_message_read_time
        counted = await reading.scalar(
            select(func.count())
            .select_from(Message)
            .where(Message.recipient_id == SUSAN, after_mark, not_(Message.read))
        )
        messages = (await reading.execute(select(Message).order_by(Message.timestamp))).scalars().all()
        rows_found = (await reading.execute(select(models.Notification))).scalars().all()
    assert [each.get_data() for each in rows_found if each.user_id == SUSAN] == [mailbox.unread_message_count]
    return mailbox.unread_message_count, counted or 0, list(messages)


def check_with(poller: Poller, unread: Callable[[list[Message]], int]) -> Callable[[Services], Awaitable[None]]:
    async def check(services: Services) -> None:
        counter, counted, messages = await stored_state(services)
        assert counter == counted == unread(messages)
        poller.apply(await services.feed.page(READER, poller.since))
        assert poller.state == {"unread_message_count": counter}
        assert poller.stamps == sorted(set(poller.stamps))

    return check


async def with_poller(
    backend: Backend, make: Callable[[Poller], list[Script]], unread: Callable[[list[Message]], int]
) -> int:
    """Run all interleavings of the scripts of ``make``; each run has its own poller."""
    current = Poller()

    def scripts() -> list[Script]:
        current.__init__()  # type: ignore[misc]
        return make(current)

    return await every_interleaving(backend, scripts, check_with(current, unread))


async def test_concurrent_sends_are_both_counted(backend: Backend) -> None:
    """send‖send: a count that is read before the lock would be published twice."""
    runs = await with_poller(backend, lambda _: [send("a"), send("b")], lambda _: INITIALLY_UNREAD + 2)
    assert runs >= 2


async def test_poller_misses_nothing_during_a_send(backend: Backend) -> None:
    """send‖poll, three polls deep: the poller sees each state at most once and ends with the last."""
    runs = await with_poller(backend, lambda poller: [send("a"), poller.polls(3)], lambda _: INITIALLY_UNREAD + 1)
    # On PostgreSQL a send is one statement: beside three reads there are ten orders.
    assert runs > 50 if isinstance(backend, SQLiteBackend) else runs == 10


async def test_poller_misses_nothing_during_two_sends(backend: Backend) -> None:
    """send‖send‖poll: nothing is committed behind the poller's cursor."""
    runs = await with_poller(
        backend, lambda poller: [send("a"), send("b"), poller.polls(2)], lambda _: INITIALLY_UNREAD + 2
    )
    assert runs > 50


def send_under_a_key(recipient: int, text: str, outcomes: list[str]) -> Script:
    async def script(services: Services) -> None:
        try:
            new = await services.messages.send_message(JOHN, recipient, text, program_key="k")
        except KeyReused:
            outcomes.append("reused")
        else:
            outcomes.append("sent" if new else "sent before")
            posts = (await services.messages.inbox(recipient, 1)).rows
            assert [post.body for post in posts] == [text], "acknowledged before the commit"

    return script


@pytest.mark.parametrize(("recipient", "other"), [(SUSAN, "sent before"), (JOHN, "reused")])
async def test_send_waits_for_a_concurrent_send_with_its_key(
    backend: Backend, settings: Settings, recipient: int, other: str
) -> None:
    """It waits for the mailbox, or for the key if the mailbox is another one; --proof: in every order."""
    outcomes: list[str] = []

    def scripts() -> list[Script]:
        outcomes.clear()
        return [send_under_a_key(SUSAN, "a", outcomes), send_under_a_key(recipient, "a", outcomes)]

    async def check(services: Services) -> None:
        assert sorted(outcomes) == sorted(["sent", other])
        async with services.storage.reading() as reading:
            keys = (await reading.execute(select(Message.idempotency_key))).scalars()
            assert len([key for key in keys if key]) == 1

    async with backend.fresh() as url:
        first, retry = actors = [Actor(url, script) for script in scripts()]
        for actor in actors:
            actor.begin()
            await backend.settled([actor])
        while first.next is not COMMIT:
            first.step()
            await backend.settled([first])
        while retry.arrived.is_set() and backend.can_step(retry, actors):
            assert retry.next is not DONE, outcomes
            retry.step()
            await backend.settled(actors)
        assert outcomes == []
        for actor in actors:
            while actor.next is not DONE:
                actor.step()
                await backend.settled(actors)
            await actor.end()
        services = assemble(replace(settings, database_url=url))
        await check(services)
        await services.storage.close()
    if backend.at_most is None:
        assert await every_interleaving(backend, scripts, check) >= 2


@pytest.mark.sqlite
async def test_send_that_waited_gets_the_newer_timestamp(backend: Backend, settings: Settings) -> None:
    """A poller that has seen the other would never see a message stamped with a time before the lock."""
    async with backend.fresh() as url:
        waiting, other = Actor(url, send("a")), Actor(url, send("b"))
        for actor in (waiting, other):
            actor.begin()
            await backend.settled([actor])
        assert waiting.next is other.next is BEGIN
        poller, services = Poller(), assemble(replace(settings, database_url=url))
        for unread, actor in enumerate((other, waiting), INITIALLY_UNREAD + 1):
            while actor.next is not DONE:
                actor.step()
                await backend.settled([actor])
            await actor.end()
            poller.apply(await services.feed.page(READER, poller.since))
            assert poller.state == {"unread_message_count": unread}
        await services.storage.close()


def add_one_to_both(first: int, second: int) -> Script:
    def work(change: Change) -> None:
        for user_id in (first, second):
            row = change.tx.execute(select(models.Notification.payload_json).where(*_sum_of(user_id))).scalar()
            change.set(user_id, "sum", int(row or 0) + 1)

    async def script(services: Services) -> None:
        await services.mailboxes.change([first, second], work)

    return script


def _sum_of(user_id: int) -> tuple[Any, Any]:
    return models.Notification.user_id == user_id, models.Notification.name == "sum"


async def test_concurrent_changes_of_two_mailboxes_lose_nothing(backend: Backend) -> None:
    """Each reads and writes both, in opposite order: no update is lost and no deadlock occurs."""

    async def check(services: Services) -> None:
        async with services.storage.reading() as reading:
            for user_id in (SUSAN, JOHN):
                found = await reading.scalar(select(models.Notification.payload_json).where(*_sum_of(user_id)))
                assert found == "2"

    def scripts() -> list[Script]:
        return [add_one_to_both(SUSAN, JOHN), add_one_to_both(JOHN, SUSAN)]

    assert await every_interleaving(backend, scripts, check) >= 2


async def test_change_of_two_mailboxes_during_a_send_to_each(backend: Backend) -> None:
    """The sends lock one mailbox each."""

    async def check(services: Services) -> None:
        async with services.storage.reading() as reading:
            clocks = (await reading.execute(select(Mailbox.user_id, Mailbox.unread_message_count))).all()
        assert sorted(map(tuple, clocks)) == [(SUSAN, INITIALLY_UNREAD + 1), (JOHN, 1)]

    def scripts() -> list[Script]:
        async def send_to_both(services: Services) -> None:
            await services.messages.send_message(SUSAN, JOHN, "one")
            await services.messages.send_message(JOHN, SUSAN, "two")

        return [add_one_to_both(JOHN, SUSAN), send_to_both]

    assert await every_interleaving(backend, scripts, check) >= 2


def open_and_mark_read(shown: list[str]) -> Script:
    async def script(services: Services) -> None:
        posts = (await services.messages.inbox(SUSAN, 25)).rows
        shown[:] = [post.body for post in posts]
        await services.messages.mark_read(SUSAN, first=posts[-1].timestamp, last=posts[0].timestamp)

    return script


async def test_mark_read_never_hides_a_newer_message(backend: Backend) -> None:
    """send‖read: a message that was not on the page stays unread."""
    shown: list[str] = []
    runs = await with_poller(
        backend,
        lambda _: [send("a"), open_and_mark_read(shown)],
        lambda messages: sum(message.body not in shown for message in messages),
    )
    assert runs > 5


def open_and_mark_conversation(shown: list[str]) -> Script:
    """Mark what the conversation shows as read, and its last message as unread again."""

    async def script(services: Services) -> None:
        lines = (await services.conversations.exchange(SUSAN, JOHN, 25)).rows
        shown[:] = [line.body for line in lines]
        await services.conversations.mark_read(SUSAN, JOHN, lines[0].timestamp, lines[-1].timestamp)
        await services.conversations.mark_unread(SUSAN, JOHN, lines[-1].timestamp)

    return script


async def test_marks_of_a_conversation_never_hide_a_newer_message(backend: Backend) -> None:
    """send‖read, unread: a message that was not in the conversation stays unread."""
    shown: list[str] = []
    runs = await with_poller(
        backend,
        lambda _: [send("a"), open_and_mark_conversation(shown)],
        lambda messages: sum(message.body not in shown[:-1] for message in messages),
    )
    assert runs > 5


async def test_connection_does_not_outlive_a_logout(backend: Backend) -> None:
    """logout‖connect: a stream ends or never begins, and sends nothing newer than the logout."""
    received: list[Notification] = []

    async def connect(services: Services) -> Any:
        stream = services.feed.follow(READER, 0, heartbeat=60)
        try:
            received.extend(await anext(stream))
        except SignedOut:
            return None

        async def last() -> None:
            await services.feed.sweep_once()  # no bus connects the actors
            with pytest.raises(SignedOut):
                received.extend(await anext(stream))

        return last

    async def logout(services: Services) -> None:
        await services.sessions.end_session(READER)
        await services.messages.send_message(JOHN, SUSAN, "after")

    async def check(_: Services) -> None:
        assert [each.data for each in received] in ([], [INITIALLY_UNREAD])

    def scripts() -> list[Script]:
        received.clear()
        return [logout, connect]

    assert await every_interleaving(backend, scripts, check) > 4


async def test_read_marks_of_two_tabs_commute(backend: Backend) -> None:
    """read‖read: in any order the marks of two tabs leave unread what neither has shown."""
    one: list[str] = []
    two: list[str] = []
    runs = await with_poller(
        backend,
        lambda _: [open_and_mark_read(one), send_then(open_and_mark_read(two))],
        lambda messages: sum(message.body not in {*one, *two} for message in messages),
    )
    assert runs > 20


def send_then(script: Script) -> Script:
    async def both(services: Services) -> None:
        await services.messages.send_message(JOHN, SUSAN, "between")
        await script(services)

    return both


async def follow(services: Services) -> None:
    await services.posts.follow(SUSAN, User(id=JOHN))


def post_and_deliver(text: str) -> Script:
    async def script(services: Services) -> None:
        await services.posts.post(JOHN, text)
        await services.deliveries.deliver_all()

    return script


def open_home(shown: set[str]) -> Script:
    async def script(services: Services) -> None:
        posts = (await services.posts.home(SUSAN, 25)).rows
        shown.update(post.body for post in posts)
        up_to = await services.posts.newest_unseen(SUSAN, posts)
        if up_to is not None:
            await services.posts.see(SUSAN, up_to)

    return script


def check_posts(shown: Collection[str] = (), mentions: int = 0) -> Callable[[Services], Awaitable[None]]:
    """The count of new posts is that of john's posts that susan's home page has not shown, delivered or not yet."""

    async def check(services: Services) -> None:
        # Whatever an actor left undelivered, any process completes.
        await services.deliveries.deliver_all()
        async with services.storage.reading() as reading:
            mailbox = (await reading.execute(select(Mailbox).where(Mailbox.user_id == SUSAN))).scalar_one()
        every = (await services.posts.home(SUSAN, 25)).rows
        assert mailbox.unread_post_count == len([post for post in every if post.body not in shown])
        assert mailbox.unread_mention_count == mentions
        state = {each.name: each.data for each in await services.feed.page(READER, 0)}
        assert state.get("unread_post_count", 0) == mailbox.unread_post_count
        assert state.get("unread_mention_count", 0) == mentions

    return check


async def test_post_is_counted_once_beside_a_follow(backend: Backend) -> None:
    """post‖follow: the follow counts the post, or its delivery finds the follow."""
    runs = await every_interleaving(backend, lambda: [post_and_deliver("a"), follow], check_posts())
    assert runs > 2


@pytest.mark.parametrize("susan_follows", [True])
async def test_home_marks_only_what_it_showed_beside_a_delivery(backend: Backend) -> None:
    """post‖open: a post that was not on the page stays new, and one that was is not counted, whenever delivered."""
    shown: set[str] = set()

    def scripts() -> list[Script]:
        shown.clear()
        return [post_and_deliver("a"), open_home(shown)]

    assert await every_interleaving(backend, scripts, check_posts(shown)) > 5


@pytest.mark.parametrize("susan_follows", [True])
async def test_concurrent_deliveries_count_a_post_once(backend: Backend) -> None:
    scripts = [post_and_deliver("a"), post_and_deliver("b")]
    assert await every_interleaving(backend, lambda: scripts, check_posts()) >= 2


async def test_concurrent_mentions_are_both_counted(backend: Backend) -> None:
    """Also beside a send to the same mailbox."""
    scripts = [post_and_deliver("@susan a"), post_and_deliver("@susan b"), send("c")]
    assert await every_interleaving(backend, lambda: scripts, check_posts(mentions=2)) >= 2


async def test_no_post_appears_behind_one_that_was_shown(backend: Backend) -> None:
    """post‖post‖read: ids are in the order of commits, so a page that begins at an id does not shift."""
    seen: list[list[int]] = []

    async def read(services: Services) -> None:
        for _ in range(2):
            seen.append([post.id for post in (await services.posts.explore(25)).rows])

    async def check(services: Services) -> None:
        every = [post.id for post in (await services.posts.explore(25)).rows]
        for ids in seen:
            assert ids == [each for each in every if ids and each <= ids[0]]

    def scripts() -> list[Script]:
        seen.clear()

        async def by_susan(services: Services) -> None:
            await services.posts.post(SUSAN, "b")

        async def by_john(services: Services) -> None:
            await services.posts.post(JOHN, "a")

        return [by_john, by_susan, read]

    assert await every_interleaving(backend, scripts, check) > 5


@pytest.mark.sqlite
async def test_sqlite_has_the_write_lock_that_schedules_assume(services: Services, settings: Settings) -> None:
    """While one transaction is open, even before its first statement, another cannot begin."""

    def work(_: Transaction) -> None:
        other = sqlite3.connect(str(settings.sqlite_file), timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()

    await services.storage.write(work)


def unless_refused(script: Script) -> Script:
    async def refused_or_done(services: Services) -> None:
        with contextlib.suppress(Refused):
            await script(services)

    return refused_or_done


async def delete_john(services: Services) -> None:
    await services.removal.delete("john")


async def follow_john(services: Services) -> None:
    """After his only message was deleted: a deletion of it would wait for the follow."""
    await services.messages.withdraw(JOHN)
    await services.posts.post(JOHN, "before")
    await follow(services)


async def reply_to_john(services: Services) -> None:
    await services.posts.post(JOHN, "question")
    for question in (await services.posts.by_author(JOHN, 1)).rows:
        await services.posts.post(SUSAN, "reply to @john", reply_to_id=question.id)


async def check_deleted(services: Services) -> None:
    """No row and no count that john has caused is left; susan's reply is a post of its own."""
    assert await services.accounts.find("john") is None
    async with services.storage.reading() as reading:
        for model in (models.Follow, models.Mention, Message):
            assert await reading.scalar(select(func.count()).select_from(model)) == 0
        for post in (await reading.execute(select(models.Post))).scalars():
            assert (post.user_id, post.reply_to_id) == (SUSAN, None)
    await check_posts(shown=["reply to @john"])(services)


@pytest.mark.parametrize(
    ("begun", "susan_follows"), [(post_and_deliver("@susan a"), True), (follow_john, False), (reply_to_john, True)]
)
async def test_deletion_finds_what_had_begun_before_it(backend: Backend, begun: Script) -> None:
    """delete‖post, delete‖follow, delete‖reply: each is refused, or deleted with all that it has counted."""
    assert await every_pause(backend, unless_refused(begun), delete_john, check_deleted) > 2

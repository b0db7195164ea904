"""Old state + events = fresh read, for every action and any history of actions.

A Hypothesis state machine on a real database: register, send, open, read, follow, post, mention, add a notification,
poll with old cursors, reconnect. After each step the state of every client equals a fresh read, each counter equals its
count, and once posts are delivered the count of new posts is that of the posts which the home page has not shown.
"""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, func, not_, select

from microblog_rt.mailboxes import Change
from microblog_rt.models import Base, Follow, Mailbox, Mention, Message, Post, User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import accounts as rows
from tests.clients import Client, signed_in
from tests.conftest import KEY, PATIENT

USERS = st.integers(0, 9)


class Histories(RuleBasedStateMachine):
    """Each rule is one action of one user; ``old`` are clients with earlier cursors and their states."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(debug=True)
        self.users: list[User] = []
        self.tabs: list[Client] = []
        self.old: list[Client] = []

    @initialize()
    def empty_the_database(self) -> None:
        async def opened() -> Services:
            services = assemble(Settings(database_url=self.url, secret_key=KEY, send_limit=None), PATIENT)
            await services.storage.write(lambda tx: [tx.execute(delete(table)) for table in tables])
            return services

        tables = list(reversed(Base.metadata.sorted_tables))

        self.services = self.run(opened())
        for _ in range(2):
            self.register()

    def teardown(self) -> None:
        for tab in self.tabs:
            self.run(tab.disconnect())
        self.run(self.services.storage.close())
        self.runner.close()

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def user(self, number: int) -> User:
        return self.users[number % len(self.users)]

    @precondition(lambda self: len(self.users) < 4)
    @rule()
    def register(self) -> None:
        name = f"user{len(self.users)}"
        user = User(username=name, username_key=name, password_hash="")

        self.run(self.services.storage.write(lambda tx: rows.add(tx, user)))
        self.users.append(user)
        self.tabs.append(self.run(self._tab(user)))

    async def _tab(self, user: User) -> Client:
        tab = Client(self.services, await signed_in(self.services, user))
        await tab.connect()
        return tab

    @rule(sender=USERS, recipient=USERS, text=st.text("ab ", min_size=1).filter(str.strip))
    def send(self, sender: int, recipient: int, text: str) -> None:
        work = self.services.messages.send_message(self.user(sender).id, self.user(recipient).id, text[:140])
        assert self.run(work)

    @rule(sender=USERS, recipient=USERS, nonce=st.sampled_from(["x", "y"]))
    def send_once(self, sender: int, recipient: int, nonce: str) -> None:
        self.run(
            self.services.messages.send_message(self.user(sender).id, self.user(recipient).id, "the same text", nonce)
        )

    @rule(number=USERS, page=st.integers(1, 3))
    def open_and_read(self, number: int, page: int) -> None:
        """Mark what a page shows; nothing else becomes read."""
        user = self.user(number)
        every = self.run(self.services.messages.inbox(user.id, 1000)).rows
        before = every[2 * page - 3].timestamp if 1 < page <= len(every) // 2 else None
        posts = self.run(self.services.messages.inbox(user.id, 2, before=before)).rows
        if posts:
            self.run(self.services.messages.mark_read(user.id, first=posts[-1].timestamp, last=posts[0].timestamp))
            shown = {post.timestamp for post in posts}
            expected = [post.unread and post.timestamp not in shown for post in every]
            assert [post.unread for post in self.run(self.services.messages.inbox(user.id, 1000)).rows] == expected

    @rule(author=USERS, named=USERS, nonce=st.sampled_from(["", "", "x"]))
    def post(self, author: int, named: int, nonce: str) -> None:
        self.run(self.services.posts.post(self.user(author).id, f"for @{self.user(named).username}", nonce))

    @rule(author=USERS, which=st.integers(0, 99))
    def reply(self, author: int, which: int) -> None:
        every = self.run(self.services.posts.explore(1000)).rows
        if every:
            to = every[which % len(every)]
            self.run(self.services.posts.post(self.user(author).id, "a reply", reply_to_id=to.id))

    @rule(follower=USERS, followed=USERS, begin=st.booleans())
    def follow_or_unfollow(self, follower: int, followed: int, begin: bool) -> None:
        follower_id, user = self.user(follower).id, self.user(followed)
        if follower_id != user.id:
            self.run((self.services.posts.follow if begin else self.services.posts.unfollow)(follower_id, user))

    @rule(number=USERS, size=st.integers(1, 3), arrives=st.booleans())
    def open_home(self, number: int, size: int, arrives: bool) -> None:
        """Mark what the first page shows; a post that arrives meanwhile stays new."""
        user = self.user(number)
        shown = self.run(self.services.posts.home(user.id, size)).rows
        if arrives:
            self.post(number + 1, number, "")
        up_to = self.run(self.services.posts.newest_unseen(user.id, shown))
        if up_to is not None:
            self.run(self.services.posts.see(user.id, up_to))

    @rule()
    def deliver(self) -> None:
        self.run(self.services.deliveries.deliver_all())
        assert self.run(self._new_posts_that_differ()) == []

    @rule(number=USERS, page=st.integers(0, 2))
    def read_mentions(self, number: int, page: int) -> None:
        """Mark what a page of mentions shows; nothing else becomes read."""
        user = self.user(number)
        every = self.run(self.services.posts.mentions(user.id, 1000)).rows
        shown = every[2 * page : 2 * page + 2]
        if shown:
            self.run(self.services.posts.mark_read(user.id, first=shown[-1].timestamp, last=shown[0].timestamp))
            now = self.run(self.services.posts.mentions(user.id, 1000)).rows
            assert [each.unread for each in now] == [each.unread and each not in shown for each in every]

    @rule(number=USERS)
    def withdraw(self, number: int) -> None:
        self.run(self.services.messages.withdraw(self.user(number).id))

    @rule(number=USERS)
    def read_all(self, number: int) -> None:
        notification = self.run(self.services.messages.mark_read(self.user(number).id))
        assert notification.data == 0

    @rule(number=USERS, first=st.integers(0, 2**62), last=st.integers(0, 2**62))
    def read_any_interval(self, number: int, first: int, last: int) -> None:
        self.run(self.services.messages.mark_read(self.user(number).id, first=first, last=last))

    @rule(number=USERS, other=USERS, position=st.integers(0, 9), length=st.integers(1, 5), unread=st.booleans())
    def mark_in_conversation(self, number: int, other: int, position: int, length: int, unread: bool) -> None:
        """Mark some messages of one person as read, or one and those after it as unread; no other changes."""
        user, person = self.user(number), self.user(other)
        rows = self.run(self.services.conversations.exchange(user.id, person.id, 1000)).rows
        received = [each.timestamp for each in rows if not each.own][position:]
        if not received:
            return
        inbox = {each.timestamp: each.unread for each in self.run(self.services.messages.inbox(user.id, 1000)).rows}
        if unread:
            self.run(self.services.conversations.mark_unread(user.id, person.id, received[0]))
            inbox |= dict.fromkeys(received, True)
        else:
            shown = received[:length]
            self.run(self.services.conversations.mark_read(user.id, person.id, shown[0], shown[-1]))
            inbox |= dict.fromkeys(shown, False)
        marked = {each.timestamp: each.unread for each in self.run(self.services.messages.inbox(user.id, 1000)).rows}
        assert marked == inbox

    @rule(
        number=USERS, name=st.sampled_from(["a", "b", "unread_message_count" + "x"]), data=st.none() | st.floats(0, 1)
    )
    def add_notification(self, number: int, name: str, data: Any) -> None:
        self.run(self.services.notifications.add_notification(self.user(number).id, name, data))

    @rule(number=USERS)
    def keep_cursor(self, number: int) -> None:
        tab = self.tabs[number % len(self.tabs)]
        old = Client(self.services, tab.reader, tab.since)
        old.state = dict(tab.state)
        self.old.append(old)

    @precondition(lambda self: self.old)
    @rule(which=st.integers(0, 99), repeat=st.booleans())
    def poll_with_old_cursor(self, which: int, repeat: bool) -> None:
        old = self.old[which % len(self.old)]
        self.run(old.poll())
        if repeat:
            self.run(old.poll())
            assert old.pages[-1] == []
        assert old.state == self.fresh(old)
        self.old.remove(old)

    @rule(number=USERS)
    def reconnect(self, number: int) -> None:
        tab = self.tabs[number % len(self.tabs)]
        self.run(tab.disconnect())
        self.run(tab.connect())

    @rule()
    def reconcile(self) -> None:
        self.run(self.services.feed.reconcile())

    @rule(first=USERS, second=USERS, data=st.integers())
    def change_two_mailboxes(self, first: int, second: int, data: int) -> None:
        users = [self.user(first).id, self.user(second).id]

        def work(change: Change) -> None:
            for user_id in users:
                change.set(user_id, "a", data)
                change.set(user_id, "b", data)

        self.run(self.services.mailboxes.change(users, work))

    def fresh(self, client: Client) -> dict[str, Any]:
        notifications = self.run(self.services.feed.page(client.reader, 0))
        return {each.name: each.data for each in notifications}

    @invariant()
    def every_tab_equals_a_fresh_read(self) -> None:
        for tab in self.tabs:
            notifications = self.run(self.services.feed.page(tab.reader, 0))
            newest = notifications[-1].timestamp if notifications else 0
            self.run(tab.until(lambda tab=tab, newest=newest: tab.since >= newest))
            assert tab.state == {each.name: each.data for each in notifications}

    @invariant()
    def every_counter_equals_the_count(self) -> None:
        if self.users:
            assert self.run(self._counters_that_differ()) == []

    async def _counters_that_differ(self) -> list[Any]:
        return [
            row
            for model, count, mark in (
                (Message, Mailbox.unread_message_count, Mailbox.last_message_read_time),
                (Mention, Mailbox.unread_mention_count, Mailbox.last_mention_read_time),
            )
            for row in await self._differing(
                count,
                select(func.count()).where(
                    model.recipient_id == Mailbox.user_id, model.timestamp > mark, not_(model.read)
                ),
            )
        ] + await self._differing(Mailbox.unread_post_count, self._new_posts().where(Post.id <= Follow.delivered_id))

    async def _new_posts_that_differ(self) -> list[Any]:
        return await self._differing(Mailbox.unread_post_count, self._new_posts())

    def _new_posts(self) -> Any:
        return (
            select(func.count())
            .select_from(Follow)
            .join(Post, Post.user_id == Follow.followed_id)
            .where(Follow.follower_id == Mailbox.user_id, Post.id > Mailbox.last_post_seen)
        )

    async def _differing(self, counter: Any, counting: Any) -> list[Any]:
        counted = counting.correlate(Mailbox).scalar_subquery()
        statement = select(Mailbox.user_id, counter, counted).where(counter != counted)
        async with self.services.storage.reading() as reading:
            return list(await reading.execute(statement))


def test_every_tab_equals_a_fresh_read(database: str, request: pytest.FixtureRequest) -> None:
    """12 histories of 30 steps; with ``--proof`` 100 of 50."""
    examples, steps = (100, 50) if request.config.getoption("--proof") else (12, 30)
    machine = type("HistoriesOnDatabase", (Histories,), {"url": database})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )

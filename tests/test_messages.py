"""Sending messages, marking them as read, adding notifications, and the errors of each."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import event, insert, make_url
from sqlalchemy.dialects import sqlite

from microblog_rt import messages
from microblog_rt.errors import BadRequest, Invalid, KeyReused, NotFound, SignedOut, TooMany
from microblog_rt.hub import Hub
from microblog_rt.models import Message, User
from microblog_rt.protocol import FURTHEST, Signal
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import sql_time
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.storage.mailboxes import SHOWN, SHOWN_UP_TO
from microblog_rt.storage.messages import inbox
from tests.clients import signed_in
from tests.conftest import PASSWORD


async def unread(services: Services, user: User) -> int:
    visit = await services.sessions.visit(await signed_in(services, user))
    assert visit is not None
    return visit.counters["unread_message_count"]


async def bodies(services: Services, user: User) -> list[str]:
    posts = (await services.messages.inbox(user.id, 100)).rows
    return [post.body for post in posts]


async def test_message_arrives_stripped_and_unread(services: Services, susan: User, john: User) -> None:
    assert await services.messages.send_message(john.id, susan.id, "  hello\r\nthere \n")
    posts, _, more = await services.messages.inbox(susan.id, 10)
    assert [(post.author.username, post.body, post.unread) for post in posts] == [("john", "hello\nthere", True)]
    assert not more
    assert await unread(services, susan) == 1
    assert await unread(services, john) == 0


@pytest.mark.parametrize("body", ["", " \n\t ", "x" * 141])
async def test_invalid_body_is_refused(services: Services, susan: User, body: str) -> None:
    with pytest.raises(Invalid) as refused:
        await services.messages.send_message(susan.id, susan.id, body)
    assert refused.value.field == "message"
    assert await bodies(services, susan) == []


async def test_140_emoji_of_several_code_points_are_accepted(services: Services, susan: User, john: User) -> None:
    await services.messages.send_message(
        john.id, susan.id, "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}" * 140
    )
    assert await unread(services, susan) == 1


async def test_send_to_unknown_user_is_not_found(services: Services, susan: User) -> None:
    with pytest.raises(NotFound):
        await services.messages.send_message(susan.id, 999, "hello")


async def test_same_nonce_and_text_is_sent_once(services: Services, susan: User, john: User) -> None:
    sent = [await services.messages.send_message(john.id, susan.id, "hello", "n") for _ in range(3)]
    assert sent == [True, False, False]
    assert await unread(services, susan) == 1


async def test_concurrent_double_submit_is_sent_once(services: Services, susan: User, john: User) -> None:
    sends = [services.messages.send_message(john.id, susan.id, "hello", "n") for _ in range(8)]
    assert sorted(await asyncio.gather(*sends)) == [False] * 7 + [True]
    assert await unread(services, susan) == 1


async def test_nonce_is_per_text_sender_and_recipient(services: Services, susan: User, john: User) -> None:
    assert await services.messages.send_message(john.id, susan.id, "hello", "n")
    assert await services.messages.send_message(john.id, susan.id, "goodbye", "n")
    assert await services.messages.send_message(susan.id, susan.id, "hello", "n")
    assert await services.messages.send_message(john.id, john.id, "hello", "n")
    assert await bodies(services, susan) == ["hello", "goodbye", "hello"]


async def test_equal_messages_without_a_nonce_are_both_sent(services: Services, susan: User) -> None:
    assert [await services.messages.send_message(susan.id, susan.id, "hello") for _ in range(2)] == [True, True]


async def test_idempotency_key_sends_and_notifies_once(services: Services, susan: User, john: User) -> None:
    reader = await signed_in(services, susan)
    assert await services.messages.send_message(john.id, susan.id, "hello", "one", "k")
    (first,) = await services.feed.page(reader, 0)
    for body, nonce in (("hello", "one"), ("hello", ""), (" hello\r\n", "two")):
        assert not await services.messages.send_message(john.id, susan.id, body, nonce, "k")
    assert await bodies(services, susan) == ["hello"]
    (second,) = await services.feed.page(reader, 0)
    assert (second.data, second.timestamp) == (1, first.timestamp)
    assert await services.messages.send_message(john.id, susan.id, "hello", "one", '"k"')


async def test_idempotency_key_is_per_sender_and_fixes_the_request(services: Services, susan: User, john: User) -> None:
    assert await services.messages.send_message(john.id, susan.id, "hello", program_key="k")
    for recipient, body in ((susan, "hello!"), (john, "hello")):
        with pytest.raises(KeyReused):
            await services.messages.send_message(john.id, recipient.id, body, program_key="k")
    assert await services.messages.send_message(susan.id, susan.id, "hello", program_key="k")
    assert await services.messages.send_message(john.id, susan.id, "hello", nonce="k")
    assert await bodies(services, susan) == ["hello"] * 3
    assert await unread(services, susan) == 2
    assert await bodies(services, john) == []


async def test_refused_message_stores_no_key_and_retry_is_not_counted(
    services: Services, settings: Settings, susan: User
) -> None:
    strict = assemble(replace(settings, send_limit=Limit(1, 60)))
    assert await strict.messages.send_message(susan.id, susan.id, "first", program_key="k")
    with pytest.raises(TooMany):
        await strict.messages.send_message(susan.id, susan.id, "refused", program_key="refused")
    assert not await strict.messages.send_message(susan.id, susan.id, "first", program_key="k")
    await strict.storage.close()
    assert await services.messages.send_message(susan.id, susan.id, "something else", program_key="refused")


async def test_messages_newer_than_the_shown_page_stay_unread(services: Services, susan: User, john: User) -> None:
    await services.messages.send_message(john.id, susan.id, "shown")
    posts = (await services.messages.inbox(susan.id, 10)).rows
    await services.messages.send_message(john.id, susan.id, "newer")
    notification = await services.messages.mark_read(susan.id, last=posts[0].timestamp)
    assert (notification.name, notification.data) == ("unread_message_count", 1)
    posts = (await services.messages.inbox(susan.id, 10)).rows
    assert [post.unread for post in posts] == [True, False]


async def test_future_read_mark_is_clamped_to_the_newest_message(services: Services, susan: User, john: User) -> None:
    await services.messages.send_message(john.id, susan.id, "one")
    assert (await services.messages.mark_read(susan.id, last=2**62)).data == 0
    await services.messages.send_message(john.id, susan.id, "two")
    assert await unread(services, susan) == 1


async def test_older_read_mark_changes_nothing_and_sends_no_signal(services: Services, susan: User, john: User) -> None:
    await services.messages.send_message(john.id, susan.id, "one")
    first = await services.messages.mark_read(susan.id)
    reader = await signed_in(services, susan)
    before = await services.sessions.visit(reader)
    again = await services.messages.mark_read(susan.id, last=1)
    after = await services.sessions.visit(reader)
    assert (again.data, again.timestamp) == (0, first.timestamp)
    assert before is not None
    assert after is not None
    assert before.cursor == after.cursor


async def test_mark_read_before_any_notification_returns_the_count(services: Services, susan: User) -> None:
    notification = await services.messages.mark_read(susan.id, last=0)
    assert (notification.name, notification.data) == ("unread_message_count", 0)
    assert notification.timestamp > 0


async def send_many(services: Services, sender: User, recipient: User, count: int) -> list[int]:
    """Send messages "0", "1", ...; their timestamps, oldest first."""
    for number in range(count):
        await services.messages.send_message(sender.id, recipient.id, str(number))
    posts = (await services.messages.inbox(recipient.id, count)).rows
    return [post.timestamp for post in reversed(posts)]


async def unread_bodies(services: Services, user: User) -> list[str]:
    posts = (await services.messages.inbox(user.id, 100)).rows
    unread_posts = [post.body for post in reversed(posts) if post.unread]
    assert await unread(services, user) == len(unread_posts)
    return unread_posts


async def test_marking_an_interval_leaves_what_is_outside_unread(services: Services, susan: User, john: User) -> None:
    sent = await send_many(services, john, susan, 6)
    assert (await services.messages.mark_read(susan.id, first=sent[3], last=sent[4])).data == 4
    assert await unread_bodies(services, susan) == ["0", "1", "2", "5"]
    assert (await services.messages.mark_read(susan.id, first=sent[2], last=sent[4])).data == 3
    assert (await services.messages.mark_read(susan.id, first=sent[0], last=sent[1])).data == 1
    assert await unread_bodies(services, susan) == ["5"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_pages_may_be_marked_in_any_order(
    services: Services, susan: User, john: User, order: tuple[int, ...]
) -> None:
    sent = await send_many(services, john, susan, 6)
    for done, page in enumerate(order, 1):
        marked = await services.messages.mark_read(susan.id, first=sent[2 * page], last=sent[2 * page + 1])
        assert marked.data == 6 - 2 * done
    await services.messages.send_message(john.id, susan.id, "new")
    assert await unread_bodies(services, susan) == ["new"]


async def test_what_was_marked_by_itself_stays_read(services: Services, susan: User, john: User) -> None:
    sent = await send_many(services, john, susan, 4)
    await services.messages.mark_read(susan.id, first=sent[2], last=sent[2])
    await services.messages.mark_read(susan.id, last=sent[0])
    assert await unread_bodies(services, susan) == ["1", "3"]
    again = await services.messages.mark_read(susan.id, first=sent[2], last=sent[2])
    assert again.data == 2
    await services.mailboxes.change(susan.id, lambda change: change.recount(susan.id, UNREAD_MESSAGES))
    assert await unread_bodies(services, susan) == ["1", "3"]


async def test_marking_everything_writes_no_message(services: Services, susan: User, john: User) -> None:
    """It must cost the same however many are unread."""
    sent = await send_many(services, john, susan, 5)
    await services.messages.mark_read(susan.id, first=sent[3], last=sent[3])
    statements: list[str] = []
    event.listen(services.storage.engines[1], "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert (await services.messages.mark_read(susan.id, last=sent[4])).data == 0
    assert [each for each in statements if each.startswith("UPDATE message")] == []


@pytest.mark.sqlite
async def test_marks_read_few_rows(services: Services, susan: User, john: User, settings: Settings) -> None:
    """However many are unread, and however many newer ones are read one by one."""
    sent = await send_many(services, john, susan, 1)
    rows = [
        {"sender_id": john.id, "recipient_id": susan.id, "body": "x", "timestamp": sent[0] + number, "read": False}
        for number in range(1, 2001)
    ]
    await services.storage.write(lambda tx: tx.execute(insert(Message), rows))
    newest = sent[0] + 2000
    with sqlite3.connect(str(make_url(settings.database_url).database)) as database:
        pages: dict[str, tuple[Any, dict[str, int]]] = {
            "all": (SHOWN_UP_TO, {"last": newest}),
            "the newest page": (SHOWN, {"first": newest - 24, "last": newest}),
            "the oldest page": (SHOWN, {"first": sent[0] + 1, "last": sent[0] + 24}),
            "none": (SHOWN, {"first": newest + 1, "last": newest + 2}),
        }
        for what, (statements, interval) in pages.items():
            bound = statements[UNREAD_MESSAGES].params(of_user=susan.id, **interval)
            sql = str(bound.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
            database.set_progress_handler(lambda: True, 1000)  # cancels the query at that many steps
            assert database.execute(sql).fetchone(), what


@pytest.mark.sqlite
async def test_oldest_page_reads_as_few_rows_as_the_newest(services: Services, susan: User, john: User) -> None:
    """Pages begin at a key, not after a number of rows."""
    (first,) = await send_many(services, john, susan, 1)
    rows = [
        {"sender_id": john.id, "recipient_id": susan.id, "body": "x", "timestamp": first + number, "read": False}
        for number in range(1, 2001)
    ]
    await services.storage.write(lambda tx: tx.execute(insert(Message), rows))

    async def steps(**key: int) -> int:
        """The steps of SQLite's virtual machine for a page, in tens."""
        counted: list[None] = []
        async with services.storage.reading() as reading:
            raw = await (await reading.connection()).get_raw_connection()
            assert raw.driver_connection is not None
            await raw.driver_connection.set_progress_handler(lambda: counted.append(None), 10)
            page = await inbox(reading, susan.id, 25, **key)
            await raw.driver_connection.set_progress_handler(None, 10)
        assert len(page.rows) == 25
        return len(counted)

    assert await steps(before=first + 25) <= 1.2 * await steps()


async def test_empty_and_reversed_intervals_mark_nothing(services: Services, susan: User, john: User) -> None:
    sent = await send_many(services, john, susan, 2)
    for first, last in ((sent[1], sent[0]), (sent[1] + 1, FURTHEST), (FURTHEST, 0), (0, 0)):
        assert (await services.messages.mark_read(susan.id, first=first, last=last)).data == 2


async def test_message_to_oneself_is_read(services: Services, susan: User, john: User) -> None:
    await services.messages.send_message(john.id, susan.id, "a")
    await services.messages.send_message(susan.id, susan.id, "note")
    assert await unread_bodies(services, susan) == ["a"]
    (notification,) = await services.feed.page(await signed_in(services, susan), 0)
    assert notification.data == 1
    assert notification.timestamp == (await services.messages.inbox(susan.id, 1)).rows[0].timestamp


async def test_disabled_account_receives_no_message(services: Services, susan: User, john: User) -> None:
    await services.accounts.disable("susan")
    with pytest.raises(Invalid, match="recipient_disabled"):
        await services.messages.send_message(john.id, susan.id, "hello", program_key="k")
    assert await bodies(services, susan) == []
    assert [person.username for person in (await services.accounts.people(10)).rows] == ["john"]


async def test_withdrawn_messages_are_gone_and_the_counts_are_exact(
    services: Services, susan: User, john: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "WITHDRAWN_AT_ONCE", 2)
    sent = await send_many(services, john, susan, 5)
    await services.messages.send_message(john.id, john.id, "note")
    await services.messages.send_message(susan.id, susan.id, "mine")
    await services.messages.send_message(susan.id, john.id, "hello")
    await services.messages.mark_read(susan.id, first=sent[1], last=sent[2])
    assert await services.messages.withdraw(john.id) == 6
    assert await bodies(services, susan) == ["mine"]
    assert await unread_bodies(services, susan) == []
    assert await unread_bodies(services, john) == ["hello"]


async def test_message_keeps_the_time_at_which_it_was_sent(services: Services, susan: User, john: User) -> None:
    """Also while the mailbox clock is ahead of the time."""
    before = sql_time.now()
    await services.mailboxes.change(susan.id, lambda change: change.tick(susan.id), ahead=3_600)
    await services.messages.send_message(john.id, susan.id, "hello")
    (post,) = (await services.messages.inbox(susan.id, 1)).rows
    assert before - 5_000_000 < post.created < sql_time.now() + 5_000_000
    assert post.timestamp > post.created + 3_000_000_000


async def test_pages_of_the_inbox_begin_next_to_a_message(services: Services, susan: User, john: User) -> None:
    sent = await send_many(services, john, susan, 5)

    async def page(**key: int) -> tuple[list[str], bool, bool]:
        posts, newer, older = await services.messages.inbox(susan.id, 2, **key)
        return [post.body for post in posts], newer, older

    assert await page() == (["4", "3"], False, True)
    await services.messages.send_message(john.id, susan.id, "5")
    assert await page(before=sent[3]) == (["2", "1"], True, True)
    assert await page(before=sent[1]) == (["0"], True, False)
    assert await page(before=sent[0]) == ([], True, False)
    assert await page(after=sent[0]) == (["2", "1"], True, True)
    assert await page(after=sent[3]) == (["5", "4"], False, True)
    assert await page(after=sent[4]) == (["5"], False, True)


async def test_cancelled_request_still_sends_its_message(services: Services, susan: User) -> None:
    """A tab that is closed right after the click does not interrupt the transaction."""
    sending = asyncio.create_task(services.messages.send_message(susan.id, susan.id, "hello"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await asyncio.gather(*services.storage._writes)
    assert await bodies(services, susan) == ["hello"]


@pytest.mark.sqlite
async def test_signals_are_delivered_after_the_commit(
    services: Services, settings: Settings, susan: User, john: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the time of the signal another connection sees the change, for each service that signals."""
    differences: list[int] = []

    def compare_clocks(_: Hub, signal: Signal) -> None:
        with closing(sqlite3.connect(str(settings.sqlite_file))) as other:
            (clock,) = other.execute("SELECT clock FROM mailbox WHERE user_id = ?", (signal.user_id,)).fetchone()
        differences.append(clock - signal.clock)

    monkeypatch.setattr(Hub, "deliver", compare_clocks)
    await services.messages.send_message(john.id, susan.id, "hello")
    await services.messages.mark_read(susan.id)
    await services.notifications.add_notification(susan.id, "x", 1)
    reader = await signed_in(services, susan)
    visit = await services.sessions.visit(reader)
    assert visit is not None
    await services.accounts.change_password(visit, PASSWORD, "another password")
    await services.sessions.end_session(reader)
    await services.sessions.end_session_named(susan.id, "")
    await services.sessions.end_sessions(susan.id)
    await services.accounts.set_password("susan", "yet another password")
    await services.accounts.disable("susan")
    assert differences == [0] * 9


@pytest.mark.sqlite
async def test_services_return_after_the_commit(
    services: Services, settings: Settings, susan: User, john: User
) -> None:
    """When a service returns, another connection sees its tick and so the rest of its transaction."""

    def committed_clock() -> int:
        with closing(sqlite3.connect(str(settings.sqlite_file))) as other:
            return int(other.execute("SELECT clock FROM mailbox WHERE user_id = ?", (susan.id,)).fetchone()[0])

    reader = await signed_in(services, susan)
    readings = [committed_clock()]
    for call in (
        services.messages.send_message(john.id, susan.id, "hello"),
        services.messages.mark_read(susan.id),
        services.notifications.add_notification(susan.id, "x", 1),
        services.sessions.end_session(reader),
        services.accounts.set_password("susan", "another password"),
    ):
        await call
        readings.append(committed_clock())
    assert readings == sorted(set(readings))


async def test_notification_replaces_the_older_one_of_its_name(services: Services, susan: User) -> None:
    reader = await signed_in(services, susan)
    for data in (1, {"a": [None, 2.5]}):
        await services.notifications.add_notification(susan.id, "task", data)
    (notification,) = await services.feed.page(reader, 0)
    assert (notification.name, notification.data) == ("task", {"a": [None, 2.5]})


@pytest.mark.parametrize(("name", "data"), [("", 1), ("x" * 129, 1), ("x", float("nan")), ("x", object())])
async def test_invalid_notification_is_refused(services: Services, susan: User, name: str, data: object) -> None:
    with pytest.raises(BadRequest):
        await services.notifications.add_notification(susan.id, name, data)


async def test_notification_for_unknown_user_is_not_found(services: Services) -> None:
    with pytest.raises(NotFound):
        await services.notifications.add_notification(999, "x", 1)


async def test_send_in_a_session_is_refused_when_that_is_not_in_use(
    services: Services, susan: User, john: User
) -> None:
    reader = await signed_in(services, john)
    session = services.sessions.use(reader, True)
    assert await services.messages.attempt(john.id, "Susan", "hello", "n1", session) == "susan"
    assert await services.messages.attempt(john.id, "susan", "hello", "n1", session) is None
    for sender_id, refused in [(susan.id, session), (john.id, session._replace(unused_below=0))]:
        with pytest.raises(SignedOut):
            await services.messages.attempt(sender_id, "susan", "not sent", "n2", refused)
    await services.sessions.end_session(reader)
    with pytest.raises(SignedOut):
        await services.messages.attempt(john.id, "susan", "not sent", "n2", session)
    assert [post.body for post in (await services.messages.inbox(susan.id, 10)).rows] == ["hello"]

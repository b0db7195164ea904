"""Sending messages, marking them as read, adding notifications, and the errors of each."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from microblog_rt.errors import BadRequest, Invalid, KeyReused, NotFound, TooMany
from microblog_rt.hub import Hub
from microblog_rt.models import User
from microblog_rt.protocol import Signal
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Limit, Settings
from tests.clients import signed_in
from tests.conftest import PASSWORD


async def unread(services: Services, user: User) -> int:
    visit = await services.sessions.visit(await signed_in(services, user))
    assert visit is not None
    return visit.counters["unread_message_count"]


async def bodies(services: Services, user: User) -> list[str]:
    posts, _ = await services.messages.inbox(user.id, 1, 100)
    return [post.body for post in posts]


async def test_message_arrives_stripped_and_unread(services: Services, susan: User, john: User) -> None:
    assert await services.messages.send_message(john.id, susan.id, "  hello\r\nthere \n")
    posts, more = await services.messages.inbox(susan.id, 1, 10)
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


async def test_140_emoji_of_several_code_points_are_accepted(services: Services, susan: User) -> None:
    await services.messages.send_message(
        susan.id, susan.id, "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}" * 140
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
    assert await unread(services, susan) == 3


async def test_equal_messages_without_a_nonce_are_both_sent(services: Services, susan: User) -> None:
    assert [await services.messages.send_message(susan.id, susan.id, "hello") for _ in range(2)] == [True, True]


async def test_idempotency_key_sends_and_notifies_once(services: Services, susan: User) -> None:
    reader = await signed_in(services, susan)
    assert await services.messages.send_message(susan.id, susan.id, "hello", "one", "k")
    (first,) = await services.feed.page(reader, 0)
    for body, nonce in (("hello", "one"), ("hello", ""), (" hello\r\n", "two")):
        assert not await services.messages.send_message(susan.id, susan.id, body, nonce, "k")
    assert await bodies(services, susan) == ["hello"]
    (second,) = await services.feed.page(reader, 0)
    assert (second.data, second.timestamp) == (1, first.timestamp)
    assert await services.messages.send_message(susan.id, susan.id, "hello", "one", '"k"')


async def test_idempotency_key_is_per_sender_and_fixes_the_request(services: Services, susan: User, john: User) -> None:
    assert await services.messages.send_message(john.id, susan.id, "hello", program_key="k")
    for recipient, body in ((susan, "hello!"), (john, "hello")):
        with pytest.raises(KeyReused):
            await services.messages.send_message(john.id, recipient.id, body, program_key="k")
    assert await services.messages.send_message(susan.id, susan.id, "hello", program_key="k")
    assert await services.messages.send_message(john.id, susan.id, "hello", nonce="k")
    assert await bodies(services, susan) == ["hello"] * 3
    assert await unread(services, susan) == 3
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


async def test_messages_newer_than_the_shown_page_stay_unread(services: Services, susan: User) -> None:
    await services.messages.send_message(susan.id, susan.id, "shown")
    posts, _ = await services.messages.inbox(susan.id, 1, 10)
    await services.messages.send_message(susan.id, susan.id, "newer")
    notification = await services.messages.mark_read(susan.id, posts[0].timestamp)
    assert (notification.name, notification.data) == ("unread_message_count", 1)
    posts, _ = await services.messages.inbox(susan.id, 1, 10)
    assert [post.unread for post in posts] == [True, False]


async def test_future_read_mark_is_clamped_to_the_newest_message(services: Services, susan: User) -> None:
    await services.messages.send_message(susan.id, susan.id, "one")
    assert (await services.messages.mark_read(susan.id, 2**62)).data == 0
    await services.messages.send_message(susan.id, susan.id, "two")
    assert await unread(services, susan) == 1


async def test_older_read_mark_changes_nothing_and_sends_no_signal(services: Services, susan: User) -> None:
    await services.messages.send_message(susan.id, susan.id, "one")
    first = await services.messages.mark_read(susan.id)
    reader = await signed_in(services, susan)
    before = await services.sessions.visit(reader)
    again = await services.messages.mark_read(susan.id, 1)
    after = await services.sessions.visit(reader)
    assert (again.data, again.timestamp) == (0, first.timestamp)
    assert before is not None
    assert after is not None
    assert before.cursor == after.cursor


async def test_mark_read_before_any_notification_returns_the_count(services: Services, susan: User) -> None:
    notification = await services.messages.mark_read(susan.id, 0)
    assert (notification.name, notification.data) == ("unread_message_count", 0)
    assert notification.timestamp > 0


async def test_inbox_pages_are_newest_first_with_a_more_flag(services: Services, susan: User) -> None:
    for number in range(5):
        await services.messages.send_message(susan.id, susan.id, str(number))
    first, more = await services.messages.inbox(susan.id, 1, 2)
    last, no_more = await services.messages.inbox(susan.id, 3, 2)
    assert ([post.body for post in first], more) == (["4", "3"], True)
    assert ([post.body for post in last], no_more) == (["0"], False)


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
    services: Services, settings: Settings, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the time of the signal another connection sees the change, for each service that signals."""
    differences: list[int] = []

    def compare_clocks(_: Hub, signal: Signal) -> None:
        with closing(sqlite3.connect(str(settings.sqlite_file))) as other:
            (clock,) = other.execute("SELECT clock FROM mailbox WHERE user_id = ?", (signal.user_id,)).fetchone()
        differences.append(clock - signal.clock)

    monkeypatch.setattr(Hub, "deliver", compare_clocks)
    await services.messages.send_message(susan.id, susan.id, "hello")
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
async def test_services_return_after_the_commit(services: Services, settings: Settings, susan: User) -> None:
    """When a service returns, another connection sees its tick and so the rest of its transaction."""

    def committed_clock() -> int:
        with closing(sqlite3.connect(str(settings.sqlite_file))) as other:
            return int(other.execute("SELECT clock FROM mailbox WHERE user_id = ?", (susan.id,)).fetchone()[0])

    reader = await signed_in(services, susan)
    readings = [committed_clock()]
    for call in (
        services.messages.send_message(susan.id, susan.id, "hello"),
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

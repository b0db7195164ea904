"""Conversations: the list, pages of an exchange, and exact marks. Counters equal counts after every step."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from microblog_rt.models import Mailbox, User
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.storage import conversations
from microblog_rt.storage.counters import UNREAD_MESSAGES
from tests.conftest import KEY, PASSWORD


@pytest.fixture
def settings(database: str) -> Settings:
    return Settings(database_url=database, secret_key=KEY, send_limit=None)


@pytest.fixture
async def mary(services: Services) -> User:
    return await services.accounts.register("mary", PASSWORD)


@pytest.fixture(autouse=True)
async def counters_equal_counts(services: Services) -> AsyncIterator[None]:
    yield
    await check_counters(services)


async def check_counters(services: Services) -> None:
    async with services.storage.reading() as reading:
        statement = select(Mailbox.unread_message_count, UNREAD_MESSAGES.unread())
        for counter, count in await reading.execute(statement):
            assert counter == count


async def send(services: Services, sender: User, recipient: User, *bodies: str) -> None:
    for body in bodies:
        await services.messages.send_message(sender.id, recipient.id, body)


async def exchange(services: Services, one: User, other: User, **key: int) -> list[str]:
    return [each.body for each in (await services.conversations.exchange(one.id, other.id, 100, **key)).rows]


async def unread_bodies(services: Services, user: User) -> set[str]:
    return {each.body for each in (await services.messages.inbox(user.id, 1000)).rows if each.unread}


async def test_exchange_shows_both_sides_in_one_order(services: Services, susan: User, john: User, mary: User) -> None:
    await send(services, susan, john, "one")
    await send(services, john, susan, "two")
    await send(services, mary, susan, "of mary")
    await send(services, susan, mary, "to mary")
    await send(services, susan, john, "three")
    page = await services.conversations.exchange(susan.id, john.id, 10)
    assert [(each.body, each.own) for each in page.rows] == [("one", True), ("two", False), ("three", True)]
    assert (page.previous, page.next) == (False, False)
    assert await exchange(services, john, susan) == ["one", "two", "three"]


async def test_order_does_not_depend_on_a_clock_that_is_ahead(services: Services, susan: User, john: User) -> None:
    await services.mailboxes.change(john.id, lambda change: change.tick(john.id), ahead=3600)
    await send(services, susan, john, "one")
    await send(services, john, susan, "two")
    await send(services, susan, john, "three")
    for one, other in ((susan, john), (john, susan)):
        assert await exchange(services, one, other) == ["one", "two", "three"]


async def test_pages_stay_while_messages_arrive(services: Services, susan: User, john: User) -> None:
    for number in range(7):
        await send(services, *((susan, john) if number % 3 else (john, susan)), str(number))
    newest = await services.conversations.exchange(susan.id, john.id, 3)
    assert [each.body for each in newest.rows] == ["4", "5", "6"]
    assert (newest.previous, newest.next) == (True, False)
    await send(services, john, susan, "7")
    await send(services, susan, john, "8")
    older = await services.conversations.exchange(susan.id, john.id, 3, before=newest.rows[0].key)
    assert [each.body for each in older.rows] == ["1", "2", "3"]
    assert (older.previous, older.next) == (True, True)
    oldest = await services.conversations.exchange(susan.id, john.id, 3, before=older.rows[0].key)
    assert [each.body for each in oldest.rows] == ["0"]
    assert not oldest.previous
    again = await services.conversations.exchange(susan.id, john.id, 3, after=older.rows[-1].key)
    assert [each.body for each in again.rows] == ["4", "5", "6"]
    assert again.next
    last = await services.conversations.exchange(susan.id, john.id, 3, after=again.rows[-1].key)
    assert [each.body for each in last.rows] == ["7", "8"]
    assert not last.next


async def test_messages_to_oneself_are_shown_once_and_are_read(services: Services, susan: User) -> None:
    await send(services, susan, susan, "a note", "another note")
    page = await services.conversations.exchange(susan.id, susan.id, 10)
    assert [(each.body, each.own, each.unread) for each in page.rows] == [
        ("a note", True, False),
        ("another note", True, False),
    ]
    (listed,) = (await services.conversations.of_user(susan.id, 10)).rows
    assert (listed.username, listed.body, listed.own, listed.unread) == ("susan", "another note", True, 0)
    assert (await services.conversations.mark_unread(susan.id, susan.id, page.rows[0].timestamp)).data == 0


async def test_conversations_are_listed_newest_first(services: Services, susan: User, john: User, mary: User) -> None:
    await send(services, john, susan, "one", "two")
    await send(services, susan, mary, "hello mary")
    await send(services, john, mary, "of two others")
    rows = (await services.conversations.of_user(susan.id, 10)).rows
    assert [(each.username, each.body, each.own, each.unread) for each in rows] == [
        ("mary", "hello mary", True, 0),
        ("john", "two", False, 2),
    ]
    await send(services, mary, susan, "hello susan")
    await send(services, john, susan, "three")
    rows = (await services.conversations.of_user(susan.id, 10)).rows
    assert [(each.username, each.unread) for each in rows] == [("john", 3), ("mary", 1)]


async def test_list_of_conversations_has_pages(services: Services, susan: User) -> None:
    others = [await services.accounts.register(f"other{number}", PASSWORD) for number in range(5)]
    for number, other in enumerate(others):
        await send(services, *((other, susan) if number % 2 else (susan, other)), f"message {number}")
    first = await services.conversations.of_user(susan.id, 2)
    second = await services.conversations.of_user(susan.id, 2, before=first.rows[-1].key)
    third = await services.conversations.of_user(susan.id, 2, before=second.rows[-1].key)
    names = [[each.username for each in page.rows] for page in (first, second, third)]
    assert names == [["other4", "other3"], ["other2", "other1"], ["other0"]]
    assert [(each.previous, each.next) for each in (first, second, third)] == [
        (False, True),
        (True, True),
        (True, False),
    ]
    back = await services.conversations.of_user(susan.id, 2, after=second.rows[0].key)
    assert [each.username for each in back.rows] == ["other4", "other3"]
    assert (back.previous, back.next) == (False, True)


async def test_unread_count_of_a_conversation_ends_at_100(services: Services, susan: User, john: User) -> None:
    await send(services, john, susan, *(f"message {number}" for number in range(103)))
    (listed,) = (await services.conversations.of_user(susan.id, 10)).rows
    found = await services.conversations.unread(susan.id, john.id)
    assert (listed.unread, found.number) == (100, 100)
    first = (await services.conversations.exchange(susan.id, john.id, 103)).rows[0]
    assert found.first == first.key


async def test_only_the_messages_shown_of_one_person_are_marked(
    services: Services, susan: User, john: User, mary: User
) -> None:
    for number in range(4):
        await send(services, john, susan, f"john {number}")
        await send(services, mary, susan, f"mary {number}")
    rows = (await services.conversations.exchange(susan.id, john.id, 10)).rows
    count = await services.conversations.mark_read(susan.id, john.id, rows[1].timestamp, rows[2].timestamp)
    assert (count.name, count.data) == ("unread_message_count", 6)
    everything_else = {"john 0", "john 3", *(f"mary {number}" for number in range(4))}
    assert await unread_bodies(services, susan) == everything_else
    again = await services.conversations.mark_read(susan.id, john.id, rows[1].timestamp, rows[2].timestamp)
    assert again.timestamp == count.timestamp  # nothing was changed
    assert (await services.conversations.mark_read(susan.id, john.id)).data == 4


async def test_read_mark_moves_when_nothing_older_is_unread(services: Services, susan: User, john: User) -> None:
    await send(services, john, susan, "one", "two")
    rows = (await services.conversations.exchange(susan.id, john.id, 10)).rows
    await services.conversations.mark_read(susan.id, john.id, rows[0].timestamp, rows[0].timestamp)
    assert await mark(services, susan) == rows[1].timestamp - 1
    await services.conversations.mark_read(susan.id, john.id, rows[1].timestamp, rows[1].timestamp)
    assert await mark(services, susan) >= rows[1].timestamp


async def mark(services: Services, user: User) -> int:
    async with services.storage.reading() as reading:
        statement = select(Mailbox.last_message_read_time).where(Mailbox.user_id == user.id)
        return int((await reading.execute(statement)).scalar_one())


@pytest.mark.parametrize("at_once", [1, 500])
async def test_mark_unread_begins_at_a_message_and_leaves_other_people_alone(
    services: Services, susan: User, john: User, mary: User, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = conversations.ONLY_MARKED.limit(at_once)
    monkeypatch.setattr(conversations, "ONLY_MARKED", limited)
    monkeypatch.setattr(conversations, "SET_ASIDE_AT_ONCE", at_once)
    for number in range(4):
        await send(services, john, susan, f"john {number}")
        await send(services, mary, susan, f"mary {number}")
    await services.messages.mark_read(susan.id)
    await send(services, mary, susan, "new of mary")
    rows = (await services.conversations.exchange(susan.id, john.id, 10)).rows
    count = await services.conversations.mark_unread(susan.id, john.id, rows[2].timestamp)
    assert count.data == 3
    assert await unread_bodies(services, susan) == {"john 2", "john 3", "new of mary"}
    assert (await services.conversations.unread(susan.id, john.id)) == (2, rows[2].key)
    again = await services.conversations.mark_unread(susan.id, john.id, rows[2].timestamp)
    assert (again.data, again.timestamp) == (3, count.timestamp)  # nothing was changed
    await services.conversations.mark_read(susan.id, john.id, rows[2].timestamp, rows[3].timestamp)
    assert await unread_bodies(services, susan) == {"new of mary"}
    assert (await services.conversations.mark_unread(susan.id, john.id, 0)).data == 5


@pytest.mark.parametrize("gap", range(1, 6))
async def test_marks_between_the_transactions_of_mark_unread_are_exact(
    services: Services, susan: User, john: User, mary: User, gap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``mark_unread`` of one person's messages is several transactions; others may come between any two of them."""
    monkeypatch.setattr(conversations, "ONLY_MARKED", conversations.ONLY_MARKED.limit(1))
    monkeypatch.setattr(conversations, "SET_ASIDE_AT_ONCE", 1)
    for number in range(4):
        await send(services, john, susan, f"john {number}")
        await send(services, mary, susan, f"mary {number}")
    await services.messages.mark_read(susan.id)
    first, *_ = (await services.conversations.exchange(susan.id, john.id, 10)).rows
    second = (await services.conversations.exchange(susan.id, mary.id, 10)).rows[1]
    change, changes = services.mailboxes.change, 0

    async def with_other_marks(*arguments: Any, **options: Any) -> Any:
        nonlocal changes
        changes += 1
        if changes == gap:
            await services.conversations.mark_unread(susan.id, mary.id, second.timestamp)
            await services.messages.mark_read(susan.id)
        return await change(*arguments, **options)

    monkeypatch.setattr(services.mailboxes, "change", with_other_marks)
    assert (await services.conversations.mark_unread(susan.id, john.id, first.timestamp)).data == 4
    assert changes > gap
    assert await unread_bodies(services, susan) == {f"john {number}" for number in range(4)}


async def test_any_marks_in_any_order_are_exact(services: Services, susan: User, john: User, mary: User) -> None:
    choice = random.Random(13)
    others, expected = [john, mary], dict[str, bool]()
    for step in range(120):
        other = choice.choice(others)
        rows = [each for each in (await services.conversations.exchange(susan.id, other.id, 200)).rows if not each.own]
        if not rows or choice.random() < 0.4:
            body = f"{other.username} {step}"
            await send(services, other, susan, body)
            expected[body] = True
        elif choice.random() < 0.5:
            first, last = sorted(choice.choices(range(len(rows)), k=2))
            await services.conversations.mark_read(susan.id, other.id, rows[first].timestamp, rows[last].timestamp)
            expected.update((each.body, False) for each in rows[first : last + 1])
        elif choice.random() < 0.6:
            first = choice.randrange(len(rows))
            await services.conversations.mark_unread(susan.id, other.id, rows[first].timestamp)
            expected.update((each.body, True) for each in rows[first:])
        else:
            (newest,) = (await services.messages.inbox(susan.id, 1)).rows
            await services.messages.mark_read(susan.id, last=newest.timestamp)
            expected = dict.fromkeys(expected, False)
        assert await unread_bodies(services, susan) == {body for body, unread in expected.items() if unread}
        await check_counters(services)


async def test_withdrawn_messages_leave_the_conversation(services: Services, susan: User, john: User) -> None:
    await send(services, john, susan, "hello")
    await services.messages.withdraw(john.id)
    assert await exchange(services, susan, john) == []
    assert (await services.conversations.of_user(susan.id, 10)).rows == []


async def test_mark_unread_of_an_interval_signals_the_count(services: Services, susan: User, john: User) -> None:
    await send(services, john, susan, "hello")
    (line,) = (await services.conversations.exchange(susan.id, john.id, 10)).rows
    read = await services.conversations.mark_read(susan.id, john.id)
    unread = await services.conversations.mark_unread(susan.id, john.id, line.timestamp)
    assert (read.data, unread.data) == (0, 1)
    assert unread.timestamp > read.timestamp


@pytest.mark.sqlite
async def test_no_query_of_a_page_scans_messages(services: Services, susan: User, john: User) -> None:
    plans: list[str] = []
    async with services.storage.reading() as reading:
        connection = await reading.connection()
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw
        executed: list[str] = []
        await raw.set_trace_callback(executed.append)
        await conversations.of_user(reading, susan.id, 25, before=1000)
        await conversations.exchange(reading, susan.id, john.id, 25, before=1000)
        await conversations.exchange(reading, susan.id, john.id, 25, after=1)
        await conversations.unread(reading, susan.id, john.id)
        await raw.set_trace_callback(None)
        for statement in executed:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")).all()
            plans += [each.detail for each in plan if "message" in each.detail]
    assert len(plans) >= 12
    assert [each for each in plans if not each.startswith("SEARCH")] == []

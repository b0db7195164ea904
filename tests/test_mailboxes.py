"""``Mailboxes.change``: one transaction, its notifications and its signals."""

import asyncio
from functools import partial
from typing import Any

import pytest
from sqlalchemy import case, event, literal, text

from microblog_rt.errors import BadRequest, NotFound
from microblog_rt.hub import Hub
from microblog_rt.mailboxes import Change
from microblog_rt.models import Mailbox, User
from microblog_rt.protocol import Signal
from microblog_rt.services import Services
from microblog_rt.storage.counters import UNREAD_MESSAGES
from tests.clients import Client, signed_in


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[Signal]:
    """The signals that the hub delivers."""
    delivered: list[Signal] = []
    real = Hub.deliver

    def deliver(hub: Hub, signal: Signal, **options: Any) -> None:
        delivered.append(signal)
        real(hub, signal, **options)

    monkeypatch.setattr(Hub, "deliver", deliver)
    return delivered


async def test_several_notifications_follow_on_from_each_other(
    services: Services, susan: User, signals: list[Signal]
) -> None:
    tab = Client(services, await signed_in(services, susan))
    await tab.connect()

    def work(change: Change) -> None:
        change.set(susan.id, "a", 1)
        change.set(susan.id, "b", [2])
        change.count(susan.id, UNREAD_MESSAGES, 0)

    await services.mailboxes.change(susan.id, work)
    await tab.until(lambda: tab.state == {"a": 1, "b": [2], "unread_message_count": 0})
    first, second, third = signals
    assert first.clock < second.clock < third.clock
    assert (second.follows, third.follows) == (first.clock, second.clock)
    await tab.disconnect()


async def test_one_change_notifies_several_users(
    services: Services, susan: User, john: User, signals: list[Signal]
) -> None:
    def work(change: Change) -> None:
        change.set(john.id, "a", 1)
        change.set(susan.id, "a", 2)

    await services.mailboxes.change([john.id, susan.id], work)
    assert [each.user_id for each in signals] == [john.id, susan.id]
    for user, data in ((susan, 2), (john, 1)):
        assert [each.data for each in await services.feed.page(await signed_in(services, user), 0)] == [data]


async def test_count_each_notifies_those_whose_counter_changes(
    services: Services, susan: User, john: User, signals: list[Signal]
) -> None:
    tab = Client(services, await signed_in(services, susan))
    await tab.connect()
    for_susan = case((Mailbox.user_id == susan.id, 2), else_=0)
    both = [john.id, susan.id]

    def count(delta: Any, change: Change) -> None:
        change.count_each(UNREAD_MESSAGES, delta)

    for delta in (for_susan, literal(0), for_susan):
        await services.mailboxes.change(both, partial(count, delta))
    await tab.until(lambda: tab.state == {"unread_message_count": 4})
    first, second = signals
    assert first.user_id == second.user_id == susan.id
    assert second.follows == first.clock
    assert await services.feed.page(await signed_in(services, john), 0) == []
    await services.mailboxes.change([], partial(count, literal(1)))
    assert len(signals) == 2
    await tab.disconnect()


async def test_mailboxes_are_locked_in_id_order(services: Services, susan: User, john: User) -> None:
    order: list[Any] = []

    def statement(_: Any, __: Any, sql: str, parameters: Any, *___: Any) -> None:
        order.append((sql.split()[0], parameters))

    event.listen(services.storage.engines[1], "before_cursor_execute", statement)
    await services.mailboxes.change([john.id, susan.id, john.id], lambda change: change.tick(john.id))
    first = order[1 if order[0][0] == "BEGIN" else 0]
    if services.storage.engines[1].dialect.name == "postgresql":
        assert first == ("SELECT", ([susan.id, john.id],))
    else:  # BEGIN IMMEDIATE has locked the whole database
        assert order[0][0] == "BEGIN"


async def test_the_transaction_is_handed_out_with_its_mailbox_locked(services: Services, susan: User) -> None:
    """A service that writes before it notifies gets the lock first all the same."""
    statements: list[str] = []
    event.listen(services.storage.engines[1], "before_cursor_execute", lambda _, __, sql, *___: statements.append(sql))
    await services.mailboxes.change(susan.id, lambda change: change.tx.execute(text("SELECT 1")))
    if services.storage.engines[1].dialect.name == "postgresql":
        assert "FOR UPDATE" in statements[0]
    else:
        assert statements[0] == "BEGIN IMMEDIATE"


async def test_a_failing_change_leaves_and_signals_nothing(
    services: Services, susan: User, signals: list[Signal]
) -> None:
    def work(change: Change) -> None:
        change.set(susan.id, "a", 1)
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await services.mailboxes.change(susan.id, work)
    assert signals == []
    assert await services.feed.page(await signed_in(services, susan), 0) == []


async def test_a_user_outside_the_change_is_refused(services: Services, susan: User, john: User) -> None:
    with pytest.raises(ValueError, match="not part of this change"):
        await services.mailboxes.change(susan.id, lambda change: change.tick(john.id))


async def test_an_unknown_user_is_not_found(services: Services, susan: User) -> None:
    for work in (lambda change: change.tick(999), lambda change: change.set(999, "a", 1)):
        with pytest.raises(NotFound):
            await services.mailboxes.change([susan.id, 999], work)


@pytest.mark.parametrize(("name", "data"), [("", 1), ("n" * 129, 1), ("n", float("nan")), ("n", {1, 2})])
async def test_invalid_input_is_refused(services: Services, susan: User, name: str, data: Any) -> None:
    with pytest.raises(BadRequest):
        await services.mailboxes.change(susan.id, lambda change: change.set(susan.id, name, data))


async def test_a_cancelled_change_is_committed_and_signalled(
    services: Services, susan: User, signals: list[Signal]
) -> None:
    changing = asyncio.create_task(services.mailboxes.change(susan.id, lambda change: change.set(susan.id, "a", 1)))
    await asyncio.sleep(0)
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    await services.storage.close()
    assert [each.user_id for each in signals] == [susan.id]


async def test_recount_and_restamp_notify_in_order(
    services: Services, susan: User, john: User, signals: list[Signal]
) -> None:
    await services.messages.send_message(john.id, susan.id, "hello")
    await services.notifications.add_notification(susan.id, "a", 1)

    def work(change: Change) -> None:
        change.count(susan.id, UNREAD_MESSAGES, 6)  # wrong
        assert change.recount(susan.id, UNREAD_MESSAGES).data == 1
        change.restamp(susan.id)

    await services.mailboxes.change(susan.id, work)
    page = await services.feed.page(await signed_in(services, susan), 0)
    assert [(each.name, each.data) for each in page] == [("a", 1), ("unread_message_count", 1)]
    assert [each.timestamp for each in page] == [each.clock for each in signals[-2:]]


async def test_moved_mark_and_its_count_are_one_notification(
    services: Services, susan: User, john: User, signals: list[Signal]
) -> None:
    await services.messages.send_message(john.id, susan.id, "one")
    clock = signals[-1].clock

    def work(change: Change) -> None:
        assert change.move_mark(susan.id, UNREAD_MESSAGES, -1, clock).data == 0
        assert change.recount(susan.id, UNREAD_MESSAGES).data == 0

    await services.mailboxes.change(susan.id, work)
    (page,) = await services.feed.page(await signed_in(services, susan), 0)
    assert (page.name, page.data) == ("unread_message_count", 0)


@pytest.mark.sqlite
async def test_a_change_is_one_hop_into_the_writers_thread(services: Services, susan: User) -> None:
    writer = services.storage._writer._changes
    hops = 0
    submit = writer._thread.submit

    def counted(*arguments: Any) -> Any:
        nonlocal hops
        hops += 1
        return submit(*arguments)

    writer._thread.submit = counted
    await services.messages.send_message(susan.id, susan.id, "hello")
    assert hops == 1


async def test_failing_bus_does_not_fail_a_committed_change(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Signal) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(services.bus, "publish", fail)
    notification = await services.notifications.add_notification(susan.id, "weather", "fine")
    assert notification.data == "fine"
    assert [each for each in caplog.messages if each.startswith("publishing failed")] != []

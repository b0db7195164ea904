"""The mailbox clock grows with every tick, also when the wall clock goes back."""

import pytest
from sqlalchemy import event

from microblog_rt.errors import NotFound
from microblog_rt.mailboxes import Change
from microblog_rt.models import User
from microblog_rt.services import Services
from microblog_rt.storage import mailboxes, sql_time
from microblog_rt.storage.counters import UNREAD_MESSAGES


async def tick(services: Services, user: User) -> mailboxes.Tick:
    return await services.storage.write(lambda tx: mailboxes.tick(tx, user.id))


async def test_each_tick_is_later_than_the_one_before(services: Services, susan: User) -> None:
    first, second = await tick(services, susan), await tick(services, susan)
    assert first.clock < second.clock
    assert second.before == first.clock


@pytest.mark.sqlite
async def test_clock_grows_while_the_wall_clock_goes_back(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await tick(services, susan)
    monkeypatch.setattr(sql_time, "now", lambda: before.clock - 300_000_000)
    readings = [await tick(services, susan) for _ in range(3)]
    assert [each.clock - before.clock for each in readings] == [1, 2, 3]


@pytest.mark.sqlite
async def test_clock_follows_the_wall_clock_forward(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = sql_time.now() + 300_000_000
    monkeypatch.setattr(sql_time, "now", lambda: ahead)
    assert (await tick(services, susan)).clock == ahead


async def test_rolled_back_transaction_does_not_tick(services: Services, susan: User) -> None:
    before = await tick(services, susan)

    class Halt(Exception):
        pass

    def work(change: Change) -> None:
        change.count(susan.id, UNREAD_MESSAGES, 1)
        raise Halt

    with pytest.raises(Halt):
        await services.mailboxes.change(susan.id, work)
    after = await services.storage.write(lambda tx: mailboxes.count(tx, susan.id, UNREAD_MESSAGES, 0))
    assert after.before == before.clock
    assert after.value == 0


async def test_tick_of_unknown_user_is_not_found(services: Services) -> None:
    with pytest.raises(NotFound):
        await services.storage.write(lambda tx: mailboxes.tick(tx, 999))


async def test_many_clocks_are_read_in_chunks(
    services: Services, susan: User, john: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "BIND_VARIABLES", 1)
    async with services.storage.reading() as reading:
        assert set(await mailboxes.clocks(reading, [susan.id, john.id, 999])) == {susan.id, john.id}


async def test_clock_queries_use_few_distinct_statements(services: Services, susan: User) -> None:
    """Connection and server cache each prepared statement, so their number must stay small."""
    texts: set[str] = set()
    event.listen(services.storage.engines[0], "before_cursor_execute", lambda _, __, text, *___: texts.add(text))
    async with services.storage.reading() as reading:
        for number in range(1, 130):
            found = await mailboxes.clocks(reading, range(susan.id, susan.id + number))
            assert set(found) == {susan.id}
    assert len(texts) == 9

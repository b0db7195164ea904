"""The mailbox clock: it only grows, whatever the wall clock does."""

import pytest
from sqlalchemy import event

from microblog_rt.errors import NotFound
from microblog_rt.models import User
from microblog_rt.services import Services
from microblog_rt.storage import clock, sql_time


async def tick(services: Services, user: User) -> clock.Tick:
    async with services.storage.transaction() as tx:
        return await clock.tick(tx, user.id)


async def test_each_reading_is_later_than_the_one_before(services: Services, susan: User) -> None:
    first, second = await tick(services, susan), await tick(services, susan)
    assert first.clock < second.clock
    assert second.before == first.clock


@pytest.mark.sqlite
async def test_the_clock_grows_while_the_wall_clock_stands_still_or_goes_back(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await tick(services, susan)
    monkeypatch.setattr(sql_time, "now", lambda: before.clock - 300_000_000)
    readings = [await tick(services, susan) for _ in range(3)]
    assert [each.clock - before.clock for each in readings] == [1, 2, 3]


@pytest.mark.sqlite
async def test_the_clock_follows_the_wall_clock_forward(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = sql_time.now() + 300_000_000
    monkeypatch.setattr(sql_time, "now", lambda: ahead)
    assert (await tick(services, susan)).clock == ahead


async def test_a_transaction_that_is_rolled_back_ticks_nothing(services: Services, susan: User) -> None:
    before = await tick(services, susan)

    class Halt(Exception):
        pass

    with pytest.raises(Halt):
        async with services.storage.transaction() as tx:
            await clock.tick(tx, susan.id, unread=1)
            raise Halt
    after = await tick(services, susan)
    assert after.before == before.clock
    assert after.unread_message_count == 0


async def test_nobody_has_no_mailbox(services: Services) -> None:
    async with services.storage.transaction() as tx:
        with pytest.raises(NotFound):
            await clock.tick(tx, 999)


async def test_many_clocks_are_read_in_pieces(
    services: Services, susan: User, john: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "BIND_VARIABLES", 1)
    async with services.storage.reading() as reading:
        assert set(await clock.clocks(reading, [susan.id, john.id, 999])) == {susan.id, john.id}


async def test_however_many_are_asked_for_there_are_few_statements(services: Services, susan: User) -> None:
    """A connection keeps each statement that it has prepared, and so does the server."""
    texts: set[str] = set()
    event.listen(
        services.storage._reader.sync_engine, "before_cursor_execute", lambda _, __, text, *___: texts.add(text)
    )
    async with services.storage.reading() as reading:
        for number in range(1, 130):
            found = await clock.clocks(reading, range(susan.id, susan.id + number))
            assert set(found) == {susan.id}
    assert len(texts) == 9

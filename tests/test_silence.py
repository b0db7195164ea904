"""How long a database is waited for: as long as it answers anybody."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from microblog_rt.models import User
from microblog_rt.services import Services
from microblog_rt.storage import clock, silence
from microblog_rt.storage.silence import SilenceTimeout


@pytest.fixture
def patient() -> None:
    """Not here: it is about giving up."""


@pytest.fixture
async def waited(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SilenceTimeout]:
    """In a hurry: four times as fast as it is."""
    monkeypatch.setattr(silence, "SILENCE", 0.3)
    monkeypatch.setattr(silence, "LOOKED_AT_EVERY", 0.0125)
    monkeypatch.setattr(silence, "STOOD_STILL", 0.075)
    yield SilenceTimeout()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def never(waited: SilenceTimeout) -> float:
    """Wait for what never comes; the seconds it took to give up."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with waited.waiting():
            await loop.create_future()
    return loop.time() - began


async def test_a_database_that_is_silent_is_given_up(waited: SilenceTimeout) -> None:
    assert 0.3 <= await never(waited) < 3


async def test_all_who_wait_give_up_and_whoever_comes_later_waits_as_long(waited: SilenceTimeout) -> None:
    both = [asyncio.create_task(never(waited)) for _ in range(2)]
    await asyncio.wait(both)
    assert all(0.3 <= each.result() < 3 for each in both)
    assert await never(waited) >= 0.3


async def test_nobody_gives_up_while_others_are_answered(waited: SilenceTimeout) -> None:
    """A long queue that moves is no silence."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    last = asyncio.create_task(never(waited))
    while loop.time() < began + 0.9:
        waited.answered()
        assert not last.done()
        await asyncio.sleep(0.01)
    waited.answered()
    assert await last >= 1.1


async def test_whoever_has_a_connection_wants_answers_on_that_one(waited: SilenceTimeout) -> None:
    """A commit that hangs is not helped by what others are told."""

    async def with_a_turn() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with waited.waiting():
                waited.has_turn()
                await loop.create_future()
        return loop.time() - began

    hanging = asyncio.create_task(with_a_turn())
    while not hanging.done():
        waited.answered()
        await asyncio.sleep(0.01)
    assert 0.3 <= hanging.result() < 3


async def test_a_process_that_stood_still_has_not_been_kept_waiting(waited: SilenceTimeout) -> None:
    async with waited.waiting():
        await asyncio.sleep(0.03)
        time.sleep(1)  # noqa: ASYNC251 # everything
        await asyncio.sleep(0.05)
    assert 0.3 <= await never(waited) < 3, "and a database that is silent is given up as before"


async def test_a_process_that_stood_still_has_not_seen_a_queue_stand_still(waited: SilenceTimeout) -> None:
    """Whoever had waited for long before, while others were answered, is not given up."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.4
    last = asyncio.create_task(never(waited))
    while loop.time() < until:
        waited.answered()
        await asyncio.sleep(0.01)
    time.sleep(1)  # noqa: ASYNC251 # everything
    await asyncio.sleep(0.05)
    assert not last.done()
    await last


async def test_an_answer_as_a_process_goes_on_again_does_not_lie_ahead(waited: SilenceTimeout) -> None:
    loop = asyncio.get_running_loop()
    queued = asyncio.create_task(never(waited))
    await asyncio.sleep(0.03)
    time.sleep(2)  # noqa: ASYNC251 # everything
    waited.answered()
    began = loop.time()
    await queued
    assert loop.time() - began < 2


async def test_who_is_cancelled_is_cancelled(waited: SilenceTimeout) -> None:
    waiting = asyncio.create_task(never(waited))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_long_transaction_goes_on_as_long_as_its_statements_are_answered(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENCE", 0.8)
    loop = asyncio.get_running_loop()
    until = loop.time() + 1.7
    async with services.storage.transaction() as tx:
        before = await clock.tick(tx, susan.id)
        while loop.time() < until:
            after = await clock.tick(tx, susan.id)
    assert after.clock > before.clock

"""How long a database is waited for: as long as it answers anybody."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from microblog_rt.services import assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import Transaction, mailboxes
from microblog_rt.storage.silence import SilenceTimeout
from microblog_rt.timeouts import Timeouts
from tests.conftest import PASSWORD


@pytest.fixture
async def waited() -> AsyncIterator[SilenceTimeout]:
    """In a hurry: four times as fast as it is."""
    yield SilenceTimeout(Timeouts(database_silence=0.3, silence_check=0.0125, silence_pause=0.075))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def never(waited: SilenceTimeout) -> float:
    """Wait for what never comes; the seconds it took to give up."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with waited.limited():
            await loop.create_future()
    return loop.time() - began


async def test_silent_database_times_out(waited: SilenceTimeout) -> None:
    assert 0.3 <= await never(waited) < 3


async def test_each_wait_has_the_full_timeout(waited: SilenceTimeout) -> None:
    both = [asyncio.create_task(never(waited)) for _ in range(2)]
    await asyncio.wait(both)
    assert all(0.3 <= each.result() < 3 for each in both)
    assert await never(waited) >= 0.3


async def test_queued_wait_lasts_while_others_are_answered(waited: SilenceTimeout) -> None:
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


async def test_connected_wait_ignores_answers_to_others(waited: SilenceTimeout) -> None:
    """A commit that hangs is not helped by what others are told."""

    async def with_a_turn() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with waited.limited():
                waited.connected()
                await loop.create_future()
        return loop.time() - began

    hanging = asyncio.create_task(with_a_turn())
    while not hanging.done():
        waited.answered()
        await asyncio.sleep(0.01)
    assert 0.3 <= hanging.result() < 3


async def test_time_while_the_process_was_paused_does_not_count(waited: SilenceTimeout) -> None:
    async with waited.limited():
        await asyncio.sleep(0.03)
        time.sleep(1)  # noqa: ASYNC251 # everything
        await asyncio.sleep(0.05)
    assert 0.3 <= await never(waited) < 3, "and a database that is silent is given up as before"


async def test_queued_wait_survives_a_pause_of_the_process(waited: SilenceTimeout) -> None:
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


async def test_answer_right_after_a_pause_is_not_dated_in_the_future(waited: SilenceTimeout) -> None:
    loop = asyncio.get_running_loop()
    queued = asyncio.create_task(never(waited))
    await asyncio.sleep(0.03)
    time.sleep(2)  # noqa: ASYNC251 # everything
    waited.answered()
    began = loop.time()
    await queued
    assert loop.time() - began < 2


async def test_wait_can_be_cancelled(waited: SilenceTimeout) -> None:
    waiting = asyncio.create_task(never(waited))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_long_transaction_lasts_while_statements_are_answered(settings: Settings) -> None:
    services = assemble(settings, Timeouts(database_silence=0.8))
    user = await services.accounts.register("susan", PASSWORD)

    def work(tx: Transaction) -> tuple[mailboxes.Tick, mailboxes.Tick]:
        until = time.monotonic() + 1.7
        before = mailboxes.tick(tx, user.id)
        while time.monotonic() < until:
            after = mailboxes.tick(tx, user.id)
        return before, after

    before, after = await services.storage.write(work)
    assert after.clock > before.clock
    await services.close()

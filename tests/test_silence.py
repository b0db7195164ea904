"""The silence time-out: a request waits for the database as long as it answers other requests."""

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
async def silence() -> AsyncIterator[SilenceTimeout]:
    """A quarter of the default times."""
    yield SilenceTimeout(Timeouts(database_silence=0.3, silence_check=0.0125, silence_pause=0.075))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def wait_until_timeout(silence: SilenceTimeout) -> float:
    """Wait for a future that is never done; the seconds until TimeoutError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with silence.limited():
            await loop.create_future()
    return loop.time() - began


async def test_silent_database_times_out(silence: SilenceTimeout) -> None:
    assert 0.3 <= await wait_until_timeout(silence) < 3


async def test_each_wait_has_the_full_timeout(silence: SilenceTimeout) -> None:
    both = [asyncio.create_task(wait_until_timeout(silence)) for _ in range(2)]
    await asyncio.wait(both)
    assert all(0.3 <= each.result() < 3 for each in both)
    assert await wait_until_timeout(silence) >= 0.3


async def test_queued_wait_lasts_while_others_are_answered(silence: SilenceTimeout) -> None:
    """A long queue that advances is not silence."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    last = asyncio.create_task(wait_until_timeout(silence))
    while loop.time() < began + 0.9:
        silence.answered()
        assert not last.done()
        await asyncio.sleep(0.01)
    silence.answered()
    assert await last >= 1.1


async def test_connected_wait_ignores_answers_to_others(silence: SilenceTimeout) -> None:
    """A commit that hangs times out although others are answered."""

    async def connected_wait() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with silence.limited():
                silence.connected()
                await loop.create_future()
        return loop.time() - began

    hanging = asyncio.create_task(connected_wait())
    while not hanging.done():
        silence.answered()
        await asyncio.sleep(0.01)
    assert 0.3 <= hanging.result() < 3


async def test_time_while_the_process_was_paused_does_not_count(silence: SilenceTimeout) -> None:
    async with silence.limited():
        await asyncio.sleep(0.03)
        time.sleep(1)  # noqa: ASYNC251 # block the whole process
        await asyncio.sleep(0.05)
    assert 0.3 <= await wait_until_timeout(silence) < 3, "a silent database still times out"


async def test_queued_wait_survives_a_pause_of_the_process(silence: SilenceTimeout) -> None:
    """It has waited for long before the pause, while others were answered."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.4
    last = asyncio.create_task(wait_until_timeout(silence))
    while loop.time() < until:
        silence.answered()
        await asyncio.sleep(0.01)
    time.sleep(1)  # noqa: ASYNC251 # block the whole process
    await asyncio.sleep(0.05)
    assert not last.done()
    await last


async def test_answer_right_after_a_pause_is_not_dated_in_the_future(silence: SilenceTimeout) -> None:
    loop = asyncio.get_running_loop()
    queued = asyncio.create_task(wait_until_timeout(silence))
    await asyncio.sleep(0.03)
    time.sleep(2)  # noqa: ASYNC251 # block the whole process
    silence.answered()
    began = loop.time()
    await queued
    assert loop.time() - began < 2


async def test_wait_can_be_cancelled(silence: SilenceTimeout) -> None:
    waiting = asyncio.create_task(wait_until_timeout(silence))
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

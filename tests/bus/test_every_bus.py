"""The contract in ``bus/base.py``, over every backend there is: found by file name, so that none is forgotten."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from microblog_rt.bus import Gap, base, heartbeat, publish_queue, wire
from microblog_rt.bus import postgresql as on_postgresql
from microblog_rt.bus import redis as on_redis
from microblog_rt.timeouts import Timeouts
from tests import buses
from tests.bus.backends import BACKENDS, WORLDS, OnMemory
from tests.bus.conftest import Suspicion
from tests.buses import AT_ONCE, GAP, Process, Said, plain, running, signal
from tests.clients import DEADLINE
from tests.timing import quickest

NETWORKS = [each for each in BACKENDS if WORLDS[each].over_network]
CROSSING = [each for each in BACKENDS if WORLDS[each].crosses]


def test_every_backend_is_tested() -> None:
    assert sorted(WORLDS) == BACKENDS
    assert NETWORKS == ["postgresql", "redis"]


@pytest.fixture(params=BACKENDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[OnMemory]:
    """One backend after the other; a test may ask for some of them alone."""
    world = WORLDS[request.param](request)
    yield world
    if world.over_network:
        await world.go_on()


def listening(world: OnMemory) -> AbstractAsyncContextManager[Process]:
    return buses.listening(world.url, world.database_url)


def silent(world: OnMemory) -> AbstractAsyncContextManager[Process]:
    return buses.silent(world.url, world.database_url)


crossing = pytest.mark.parametrize("world", CROSSING, indirect=True)
over_network = pytest.mark.parametrize("world", NETWORKS, indirect=True)


async def test_a_first_connection_is_no_gap_and_nobody_hears_himself(world: OnMemory) -> None:
    async with listening(world) as here:
        await world.tell(here, signal(1))
        await world.tell(here, signal(2))
        if world.over_network:
            async with silent(world) as there:
                await world.tell(there, signal(3))
                await here.hears(plain(signal(3)))
    assert set(here.heard.all) <= {world.heard(signal(3))}


async def test_a_bus_that_nobody_uses_is_closed_as_well(world: OnMemory) -> None:
    async with silent(world):
        pass


async def test_closing_twice_does_no_harm_nor_does_publishing_afterwards(world: OnMemory) -> None:
    async with silent(world) as here:
        await here.publish(signal(1))
        await here.bus.close()
    await here.publish(signal(1))


@crossing
async def test_what_is_told_in_one_process_is_heard_in_all_others(world: OnMemory) -> None:
    async with listening(world) as here, listening(world) as there, listening(world) as third:
        for number in range(5):
            told = signal(number, payload=f'"{number} é"')
            await world.tell(here, told)
            await there.hears(world.heard(told))
            await third.hears(world.heard(told))


@crossing
async def test_a_process_that_does_not_listen_tells_as_well(world: OnMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_queue, "LAST_WORDS", DEADLINE)
    async with listening(world) as here:
        async with silent(world) as command:
            await world.tell(command, signal(1))
        await here.hears(world.heard(signal(1)))


@crossing
async def test_what_is_rolled_back_is_never_told(world: OnMemory) -> None:
    async with listening(world) as here, silent(world) as there:
        await world.tell(there, signal(1), commit=False)
        assert here.heard.all == []
        await world.tell(there, signal(2))
        await here.hears(world.heard(signal(2)))
    assert set(here.heard.all) == {world.heard(signal(2))}


@crossing
async def test_whoever_joins_hears_once_subscribed(world: OnMemory) -> None:
    async with buses.listening(world.url, world.database_url, users=[]) as here, silent(world) as there:
        for user_id in (1, 2):
            here.bus.subscribe(user_id)
            await here.bus.wait_subscribed(user_id)
            await world.tell(there, signal(user_id))
            await here.hears(world.heard(signal(user_id)))
            here.bus.unsubscribe(user_id)
            here.bus.subscribe(user_id)
            await here.bus.wait_subscribed(user_id)
            await world.tell(there, signal(user_id, 20))
            await here.hears(world.heard(signal(user_id, 20)))
    assert GAP not in here.heard.all


@crossing
async def test_the_iteration_may_be_left_at_any_word_and_begun_again(world: OnMemory) -> None:
    async with silent(world) as here, silent(world) as there:
        here.bus.subscribe(1)
        words = here.bus.events()
        first = asyncio.create_task(anext(words))
        await here.bus.connected.wait()
        await world.tell(there, signal(1))
        assert plain(await first) == world.heard(signal(1))
        await words.aclose()
        assert not here.bus.connected.is_set()
        assert here.bus.health().state == "away"
        again = here.bus.events()
        assert isinstance(await anext(again), Gap)
        await again.aclose()


@crossing
async def test_health_tells_what_was_heard(world: OnMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    async with silent(world) as here:
        health = here.bus.health()
        assert (health.state, health.heard_seconds_ago) == ("away", None)
    async with listening(world) as here:
        await until_heard(here)
        health = here.bus.health()
        assert health.heard_seconds_ago is not None
        assert 0 <= health.heard_seconds_ago < DEADLINE


async def until_heard(process: Process) -> None:
    async with asyncio.timeout(DEADLINE):
        while process.bus.health().state != "heard":
            await asyncio.sleep(0.005)


async def until_heard_again(process: Process) -> None:
    """Until another heartbeat has come back than the one that may be on its way."""
    for _ in range(2):
        process.bus.heartbeat._heard_at = None
        await until_heard(process)


@over_network
async def test_a_connection_that_was_ended_is_one_gap_and_then_all_is_well(
    world: OnMemory, said: Said, impatient: None
) -> None:
    async with listening(world) as here, silent(world) as there:
        await world.cut()
        await here.hears(GAP)
        assert here.bus.connected.is_set()
        await world.tell(there, signal(1))
        await here.hears(plain(signal(1)))
    assert here.heard.all == [GAP, plain(signal(1))]
    assert said.times("is away, so that other processes are not heard") == 1
    assert said.times("back (it was away") == 1


@over_network
async def test_nothing_new_is_heard_before_the_gap(world: OnMemory, said: Said, impatient: None) -> None:
    async with listening(world) as here, silent(world) as there:
        await world.cut()
        await said.until("back (it was away, so that other processes are not heard)")
        await world.tell(there, signal(1))
        await here.hears(plain(signal(1)))
    assert here.heard.all == [GAP, plain(signal(1))]


@over_network
async def test_a_broker_that_hangs_delays_nobody_and_is_a_gap_when_it_goes_on(
    world: OnMemory, said: Said, suspicion: Suspicion
) -> None:
    async with listening(world) as here, silent(world) as there:
        await until_heard(here)
        await world.tell(there, signal(1))
        await here.hears(plain(signal(1)))
        with suspicion():
            await until_heard_again(here)
            at_once = await quickest(lambda: world.tell(there, signal(2)), 0) + AT_ONCE  # it asks a database
            await world.hang()
            assert await quickest(lambda: world.tell(there, signal(2)), at_once) < at_once
            await said.until("not heard")
            assert here.bus.health().state == "away"
            assert await quickest(lambda: world.tell(there, signal(3)), at_once) < at_once
            assert await quickest(lambda: here.bus.wait_subscribed(1), AT_ONCE) < AT_ONCE
            await world.go_on()
            await here.hears(GAP)
        await world.tell(there, signal(4))
        await here.hears(plain(signal(4)))


@over_network
async def test_a_process_that_does_not_hear_itself_connects_again(
    world: OnMemory, said: Said, quick_pulse: None
) -> None:
    """The connection stands and answers; a question over it would find nothing wrong."""
    async with listening(world) as here, silent(world) as there:
        await until_heard(here)
        here.bus._own = "microblog_rt_somewhere_else"  # type: ignore[attr-defined]
        await said.until("no heartbeat has come back for 0.5 seconds")
        await here.hears(GAP)
        await until_heard(here)
        await world.tell(there, signal(1))
        await here.hears(plain(signal(1)))
    assert here.heard.all == [GAP, plain(signal(1))]


@over_network
async def test_a_heartbeat_that_comes_back_is_no_trouble(
    world: OnMemory, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.1)
    monkeypatch.setattr(heartbeat, "DEAF", 0.5)
    async with listening(world) as here:
        async with asyncio.timeout(DEADLINE):
            for _ in range(12):  # of 0.1 seconds: more than twice what it takes to be deaf
                await until_heard_again(here)
    assert (here.heard.all, said.lines.all) == ([], [])


def test_nobody_is_deaf_sooner_or_later_than_ten_seconds(as_it_is: None) -> None:
    assert heartbeat.DEAF == 10.0
    assert heartbeat.DEAF % heartbeat.BEAT == 0
    assert max(on_redis.PATIENCE, on_postgresql.PATIENCE) <= heartbeat.BEAT
    assert Timeouts().bus_start > on_redis.PATIENCE


@over_network
async def test_nobody_waits_long_for_a_subscription(world: OnMemory, as_it_is: None) -> None:
    async with silent(world) as here:
        await world.hang()
        here.bus.subscribe(1)
        async with running(here.events()):
            soon = base.SUBSCRIBED_WITHIN + 0.1
            assert await quickest(lambda: here.bus.wait_subscribed(1), soon) < soon
            await world.go_on()


@over_network
async def test_a_large_notice_stays_at_home(world: OnMemory) -> None:
    async with listening(world) as here, silent(world) as there:
        await world.tell(there, signal(1, payload=f'"{"x" * wire.LARGEST}"'))
        await world.tell(there, signal(2, payload='"é"'))
        await here.hears(plain(signal(2, payload='"é"')))
    assert here.heard.all[0] == plain(signal(1))

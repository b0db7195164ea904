"""The bus through Redis, beyond what every bus does (``test_every_bus.py``)."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis as RawClient

from microblog_rt.bus import MemoryBus, base, connect, publish_queue, subscriptions
from microblog_rt.bus import redis as backend
from microblog_rt.errors import Misconfigured
from tests.bus.conftest import Suspicion
from tests.bus.test_every_bus import until_heard_again
from tests.buses import GAP, NONE_OF_OURS, Process, Said, listening, others, plain, running, signal, silent
from tests.clients import DEADLINE
from tests.services import Redis
from tests.timing import TRIES, quickest


async def test_others_hear_in_order_what_was_published_and_nobody_hears_himself(redis: Redis) -> None:
    async with listening(redis.url) as here, listening(redis.url) as there, listening(redis.url) as third:
        published = [signal(number, payload=f'"{number}"') for number in range(50)]
        await here.publish(*published)
        await there.hears(plain(published[-1]))
        await there.publish(signal(99))
        await here.hears(plain(signal(99)))
        await third.hears(plain(signal(99)))
    assert there.heard.all == [plain(each) for each in published]
    assert third.heard.all == [*there.heard.all, plain(signal(99))]
    assert here.heard.all == [plain(signal(99))]


async def test_what_is_no_wake_up_is_ignored_and_said_once(redis: Redis, raw: RawClient, said: Said) -> None:
    async with listening(redis.url) as here, listening(redis.url) as there:
        for packed in NONE_OF_OURS:
            assert await raw.publish("microblog-rt:0:user:1", packed) == 2
        await there.publish(signal(1))
        await here.hears(plain(signal(1)))
    assert here.heard.all == [plain(signal(1))]
    assert said.times("no signal-up") == len((here, there))


async def test_databases_of_one_redis_are_different_installations(redis: Redis) -> None:
    elsewhere = redis.url.replace("/0", "/1")
    async with listening(redis.url) as here, listening(elsewhere) as there, listening(elsewhere) as third:
        await here.publish(signal(1))
        await here.bus.close()
        await third.publish(signal(2))
        await there.hears(plain(signal(2)))
    assert there.heard.all == [plain(signal(2))]


async def test_a_restart_of_redis_is_one_gap_and_then_all_is_well(redis: Redis, said: Said, impatient: None) -> None:
    async with listening(redis.url) as here, listening(redis.url) as there:
        await there.publish(signal(1))
        await here.hears(plain(signal(1)))
        redis.stop()
        await said.until("not heard")
        redis.start()
        await here.hears(GAP)
        assert here.bus.connected.is_set()
        await there.publish(signal(2))
        await here.hears(plain(signal(2)))
    assert here.heard.all == [plain(signal(1)), GAP, plain(signal(2))]
    assert said.times("is away, so that other processes are not heard") == len((here, there))


async def test_a_first_subscription_that_took_a_second_attempt_is_a_gap(
    redis: Redis, said: Said, impatient: None
) -> None:
    redis.stop()
    async with silent(redis.url) as here, running(here.events()):
        await said.until("not heard")
        redis.start()
        await here.hears(GAP)


async def test_a_redis_that_is_away_keeps_nobody_waiting_and_is_said_once(
    redis: Redis, said: Said, impatient: None
) -> None:
    async with listening(redis.url, users=[5000]) as here, listening(redis.url) as there:
        redis.stop()
        for number in range(3):
            await there.publish(*[signal(each, payload="1") for each in range(number, 2000, 3)])
            await said.until("not told")
            await said.lines.until(lambda _: said.times("not heard") == len((here, there)))
        assert not here.bus.connected.is_set()
        redis.start()
        await here.hears(GAP)
        await there.publish(signal(5000))
        await here.hears(plain(signal(5000)))
    assert said.times("is away, so that other processes are not told") == 1
    assert said.times("back (it was away, so that other processes are not told)") == 1
    assert here.heard.all.count(GAP) == 1


async def test_a_redis_that_hangs_keeps_nobody_waiting_and_is_a_gap(
    redis: Redis, raw: RawClient, said: Said, suspicion: Suspicion
) -> None:
    async with listening(redis.url) as here, listening(redis.url) as there:
        await there.publish(signal(1))
        await here.hears(plain(signal(1)))
        with suspicion():
            await until_heard_again(here)
            await until_heard_again(there)
            redis.pause()
            await there.publish(signal(2), signal(3))
            await said.lines.until(lambda _: said.times("not heard") == len((here, there)))
            await said.until("not told")
            await there.publish(signal(2, 11), signal(4))
            redis.resume()
            await here.hears(GAP)
            await said.until("back (it was away, so that other processes are not told)")
        await there.publish(signal(5))
        await here.hears(plain(signal(5)))
        assert here.heard.all[:2] == [plain(signal(1)), GAP]
    assert await others(raw) == []


async def test_a_redis_that_hangs_from_the_first_is_given_up_and_tried_again(
    redis: Redis, said: Said, suspicion: Suspicion
) -> None:
    redis.pause()
    with suspicion():
        async with silent(redis.url) as here, running(here.events()):
            await said.until("not heard: no answer")
            redis.resume()
            await here.hears(GAP)


async def test_a_redis_that_hangs_for_a_moment_loses_nothing(redis: Redis) -> None:
    async with listening(redis.url) as here, listening(redis.url) as there:
        redis.pause()
        await there.publish(signal(1), signal(2))
        redis.resume()
        await here.hears(plain(signal(2)))
    assert here.heard.all == [plain(signal(1)), plain(signal(2))]


async def test_a_connection_that_redis_closed_for_being_idle_is_no_trouble(
    redis: Redis, raw: RawClient, said: Said
) -> None:
    async with listening(redis.url) as here, listening(redis.url) as there:
        await there.publish(signal(1))
        await here.hears(plain(signal(1)))
        await raw.client_kill_filter(_type="normal", skipme=True)
        await raw.ping()
        await there.publish(signal(2))
        await here.hears(plain(signal(2)))
    assert said.lines.all == []


async def test_a_flood_of_words_leaves_others_their_turn(redis: Redis) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with listening(redis.url) as here, listening(redis.url) as there:
        flood = [signal(number) for number in range(500)]
        await there.publish(*flood)
        await here.hears(plain(flood[0]))
        async with running(take_turns()):
            await here.hears(plain(flood[-1]))
        assert turns > len(flood) / 2


async def test_closing_leaves_no_connection(redis: Redis, raw: RawClient) -> None:
    async with listening(redis.url) as here, listening(redis.url) as there:
        await there.publish(signal(1))
        await here.hears(plain(signal(1)))
        assert len(await others(raw)) == 4
    assert await others(raw) == []


async def test_closing_says_last_words(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_queue, "LAST_WORDS", DEADLINE)
    async with listening(redis.url) as here:
        async with silent(redis.url) as command:
            await command.publish(signal(1))
        await here.hears(plain(signal(1)))


@pytest.mark.parametrize("trouble", [Redis.pause, Redis.stop])
async def test_closing_waits_for_a_redis_that_does_not_listen_but_a_moment(
    redis: Redis, trouble: Callable[[Redis], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [Process(connect(redis.url)) for _ in range(TRIES)]
    async with listening(redis.url) as here:
        for number, command in enumerate(commands):
            await command.publish(signal(number))
            await here.hears(plain(signal(number)))
        trouble(redis)
        for command in commands:
            await command.publish(signal(100))
        closing = iter(commands)
        moment = publish_queue.LAST_WORDS + 0.5
        assert await quickest(lambda: next(closing).bus.close(), moment) < moment
        monkeypatch.setattr(publish_queue, "LAST_WORDS", 0)
        for command in closing:
            await command.bus.close()


async def test_a_password_opens_redis_and_stands_in_no_log(tmp_path: Path, said: Said) -> None:
    with Redis(tmp_path, "--requirepass", "s3cret/") as redis:
        right = redis.url.replace("//", "//:s3cret%2F@")
        async with listening(right) as here, silent(right) as there:
            await there.publish(signal(1))
            await here.hears(plain(signal(1)))
            async with silent(redis.url.replace("//", "//:wr0ng@")) as stranger:
                await stranger.publish(signal(2))
                async with running(stranger.events()):
                    await said.until("not told")
                    await said.until("not heard")
    assert said.times("s3cret") == said.times("wr0ng") == 0


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@h/name",
        "redis://:s3cret@h/-1",
        "redis://user:s3cret/x@h",
        "redis://:s3cret@h:99999/0",
        "redis://:s3cret@h/0?socket_timeout=60",
        "redis://:s3cret@h/0?decode_responses=yes",
        "redis://:s3cret@h/0?ssl_nonsense=1",
        "rediss://:s3cret@h/0?ssl_cert_reqs=s3cret",
    ],
)
def test_an_address_that_redis_cannot_have_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Misconfigured, match="MICROBLOG_BUS_URL: wants redis://HOST:PORT/NUMBER") as refused:
        connect(url)
    assert "s3cret" not in str(refused.value)


def test_without_redis_py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    assert isinstance(connect("memory://"), MemoryBus)
    with pytest.raises(Misconfigured, match=r"pip install 'microblog-rt\[redis\]'"):
        connect("redis://localhost/0")


async def users_subscribed_to(raw: RawClient) -> set[bytes]:
    channels: list[bytes] = await raw.pubsub_channels("microblog-rt:0:user:*")  # type: ignore[assignment]
    return {each.rpartition(b":")[2] for each in channels}


async def subscribe_commands(raw: RawClient) -> int:
    stats = await raw.info("commandstats")
    return int(stats.get("cmdstat_subscribe", {"calls": 0})["calls"])


async def until_subscribed_to(raw: RawClient, users: set[bytes]) -> None:
    async with asyncio.timeout(DEADLINE):
        while await users_subscribed_to(raw) != users:
            await asyncio.sleep(0.01)


async def test_word_comes_only_of_users_whom_somebody_listens_to_here(
    redis: Redis, raw: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "LINGER", 0.02)
    async with listening(redis.url, users=[1]) as here, silent(redis.url) as there:
        await until_subscribed_to(raw, {b"1"})
        await there.publish(signal(2), signal(1))
        await here.hears(plain(signal(1)))
        here.bus.subscribe(2)
        await here.bus.wait_subscribed(2)
        here.bus.unsubscribe(1)
        await until_subscribed_to(raw, {b"2"})
        here.bus.subscribe(1)
        await here.bus.wait_subscribed(1)
        await there.publish(signal(2), signal(1, 11))
        await here.hears(plain(signal(2)), plain(signal(1, 11)))
    assert here.heard.all == [plain(signal(1)), plain(signal(2)), plain(signal(1, 11))]


async def test_who_is_soon_back_is_not_subscribed_to_anew(redis: Redis, raw: RawClient) -> None:
    async with listening(redis.url, users=[1]) as here:
        before = await subscribe_commands(raw)
        for _ in range(3):
            here.bus.unsubscribe(1)
            here.bus.subscribe(1)
            await here.bus.wait_subscribed(1)
        here.bus.subscribe(2)  # who is asked for after whatever came before
        await here.bus.wait_subscribed(2)
        assert await subscribe_commands(raw) == before + 1


async def test_who_reads_before_the_subscription_stands_reads_again(redis: Redis) -> None:
    async with listening(redis.url, users=[3]) as here:
        redis.pause()
        here.bus.subscribe(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base, "SUBSCRIBED_WITHIN", 0.1)
            await here.bus.wait_subscribed(1)
        here.bus.subscribe(2)
        waiting = asyncio.create_task(here.bus.wait_subscribed(2))
        await asyncio.sleep(0)
        redis.resume()
        await waiting
        await here.hears((GAP, 1))
    assert here.heard.all == [(GAP, 1)]


async def test_a_herd_is_subscribed_to_in_few_commands(redis: Redis, raw: RawClient, impatient: None) -> None:
    herd = range(1500)
    async with listening(redis.url, users=[]) as here, silent(redis.url) as there:
        before = await subscribe_commands(raw)
        for user_id in herd:
            here.bus.subscribe(user_id)
        await asyncio.gather(*[here.bus.wait_subscribed(user_id) for user_id in herd])
        assert len(await users_subscribed_to(raw)) == len(herd)
        assert await subscribe_commands(raw) - before <= 2 + len(herd) / backend.BATCH
        before = await subscribe_commands(raw)
        await raw.client_kill_filter(_type="pubsub")
        await here.hears(GAP)
        assert len(await users_subscribed_to(raw)) == len(herd)
        assert await subscribe_commands(raw) - before <= 2 + len(herd) / backend.BATCH
        await there.publish(signal(1499))
        await here.hears(plain(signal(1499)))
    assert [each for each in here.heard.all if each[0] != GAP] == [GAP, plain(signal(1499))]


async def test_who_comes_while_redis_is_away_and_leaves_again_is_not_asked_for(
    redis: Redis, raw: RawClient, said: Said, impatient: None
) -> None:
    async with listening(redis.url, users=[1, 2]) as here:
        redis.stop()
        await said.until("not heard")
        here.bus.unsubscribe(1)
        here.bus.subscribe(3)
        here.bus.subscribe(4)
        here.bus.unsubscribe(4)
        redis.start()
        await here.hears(GAP)
        assert {b"2", b"3"} <= await users_subscribed_to(raw)
    assert here.heard.all == [GAP]

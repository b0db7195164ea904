"""The bus through Redis, beyond the contract of every bus (``test_every_bus.py``)."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis as RawClient

from microblog_rt.bus import MemoryBus, connect
from microblog_rt.bus import redis as redis_bus
from microblog_rt.errors import Misconfigured
from tests.buses import (
    FAST_HEARTBEAT,
    FAST_RETRY,
    FREQUENT_HEARTBEAT,
    GAP,
    INVALID_SIGNALS,
    PATIENT,
    CapturedLog,
    Process,
    comparable,
    idle_process,
    other_connections,
    receiving_process,
    running,
    short_broker_timeouts,
    signal,
)
from tests.clients import DEADLINE
from tests.proof.tcp_proxy import TcpProxy
from tests.services import Redis
from tests.timing import TRIES, quickest


async def test_signals_arrive_in_order_in_other_processes_only(redis: Redis) -> None:
    async with (
        receiving_process(redis.url) as first,
        receiving_process(redis.url) as second,
        receiving_process(redis.url) as third,
    ):
        published = [signal(number, payload=f'"{number}"') for number in range(50)]
        first.publish(*published)
        await second.until_received(comparable(published[-1]))
        second.publish(signal(99))
        await first.until_received(comparable(signal(99)))
        await third.until_received(comparable(signal(99)))
    assert second.received.items == [comparable(each) for each in published]
    assert third.received.items == [*second.received.items, comparable(signal(99))]
    assert first.received.items == [comparable(signal(99))]


async def test_invalid_signals_are_ignored_and_logged_once(redis: Redis, raw: RawClient, log: CapturedLog) -> None:
    async with receiving_process(redis.url) as receiver, receiving_process(redis.url) as sender:
        for packed in INVALID_SIGNALS:
            assert await raw.publish("microblog-rt:0:user:1", packed) == 2
        sender.publish(signal(1))
        await receiver.until_received(comparable(signal(1)))
    assert receiver.received.items == [comparable(signal(1))]
    assert log.count("invalid signal") == len((receiver, sender))


async def test_databases_of_one_redis_are_separate(redis: Redis) -> None:
    other_url = redis.url.replace("/0", "/1")
    async with (
        receiving_process(redis.url) as first,
        receiving_process(other_url) as second,
        receiving_process(other_url) as third,
    ):
        first.publish(signal(1))
        await first.bus.close()
        third.publish(signal(2))
        await second.until_received(comparable(signal(2)))
    assert second.received.items == [comparable(signal(2))]


async def test_processes_leave_a_demoted_master(redis: Redis, tmp_path: Path, log: CapturedLog) -> None:
    """The address leads to the new master a moment later; the connections to the old one stay open."""
    with Redis(tmp_path) as promoted:
        async with (
            TcpProxy(redis.port) as address,
            receiving_process(address.url, timeouts=FREQUENT_HEARTBEAT) as receiver,
            receiving_process(promoted.url) as other,
            RawClient.from_url(redis.url) as raw,
        ):
            await receiver.until_next_heartbeat()
            await receiver.until_next_heartbeat()
            await raw.replicaof("127.0.0.1", promoted.port)
            await log.until("unavailable for receiving signals: it is a replica now")
            address._target = promoted.port
            await receiver.until_received(GAP)
            other.publish(signal(1))
            await receiver.until_received(comparable(signal(1)))
        assert log.count("unavailable for receiving signals") == 1


async def test_restart_of_redis_yields_one_gap(redis: Redis, log: CapturedLog) -> None:
    async with (
        receiving_process(redis.url, timeouts=FAST_RETRY) as receiver,
        receiving_process(redis.url, timeouts=FAST_RETRY) as sender,
    ):
        sender.publish(signal(1))
        await receiver.until_received(comparable(signal(1)))
        redis.stop()
        await log.until("unavailable for receiving signals")
        redis.start()
        await receiver.until_received(GAP)
        assert receiver.bus.connected.is_set()
        sender.publish(signal(2))
        await receiver.until_received(comparable(signal(2)))
    assert receiver.received.items == [comparable(signal(1)), GAP, comparable(signal(2))]
    assert log.count("unavailable for receiving signals") == len((receiver, sender))


async def test_first_connection_after_a_failed_attempt_is_a_gap(redis: Redis, log: CapturedLog) -> None:
    redis.stop()
    async with idle_process(redis.url, timeouts=FAST_RETRY) as receiver, running(receiver.receive()):
        await log.until("unavailable for receiving signals")
        redis.start()
        await receiver.until_received(GAP)


async def test_stopped_redis_delays_no_publish_and_is_logged_once(redis: Redis, log: CapturedLog) -> None:
    async with (
        receiving_process(redis.url, timeouts=FAST_RETRY, users=[5000]) as receiver,
        receiving_process(redis.url, timeouts=FAST_RETRY) as sender,
    ):
        redis.stop()
        for number in range(3):
            sender.publish(*[signal(each, payload="1") for each in range(number, 2000, 3)])
            await log.until("unavailable for publishing signals")
            await log.until("unavailable for receiving signals", times=2)
        assert not receiver.bus.connected.is_set()
        redis.start()
        await receiver.until_received(GAP)
        sender.publish(signal(5000))
        await receiver.until_received(comparable(signal(5000)))
    assert log.count("unavailable for publishing signals") == 1
    assert log.count("available again for publishing signals") == 1
    assert receiver.received.items.count(GAP) == 1


async def test_hanging_redis_delays_no_publish_and_yields_a_gap(redis: Redis, raw: RawClient, log: CapturedLog) -> None:
    async with (
        receiving_process(redis.url, timeouts=FREQUENT_HEARTBEAT) as receiver,
        receiving_process(redis.url, timeouts=FREQUENT_HEARTBEAT) as sender,
    ):
        sender.publish(signal(1))
        await receiver.until_received(comparable(signal(1)))
        with short_broker_timeouts(receiver, sender):
            await receiver.until_next_heartbeat()
            await sender.until_next_heartbeat()
            redis.pause()
            sender.publish(signal(2), signal(3))
            await log.until("unavailable for receiving signals", times=2)
            await log.until("unavailable for publishing signals")
            sender.publish(signal(2, 11), signal(4))
            redis.resume()
            await receiver.until_received(GAP)
            await log.until("available again for publishing signals")
        await receiver.until_next_heartbeat()
        sender.publish(signal(5))
        await receiver.until_received(comparable(signal(5)))
        assert receiver.received.items[:2] == [comparable(signal(1)), GAP]
    assert await other_connections(raw) == []


async def test_redis_that_hangs_during_connect_is_retried(redis: Redis, log: CapturedLog) -> None:
    redis.pause()
    async with idle_process(redis.url, timeouts=FAST_HEARTBEAT) as receiver:
        with short_broker_timeouts(receiver):
            async with running(receiver.receive()):
                await log.until("unavailable for receiving signals: no answer")
                redis.resume()
                await receiver.until_received(GAP)


async def test_short_pause_of_redis_loses_no_signal(redis: Redis) -> None:
    async with receiving_process(redis.url) as receiver, receiving_process(redis.url) as sender:
        redis.pause()
        sender.publish(signal(1), signal(2))
        redis.resume()
        await receiver.until_received(comparable(signal(2)))
    assert receiver.received.items == [comparable(signal(1)), comparable(signal(2))]


async def test_publisher_reconnects_silently_after_an_idle_close(
    redis: Redis, raw: RawClient, log: CapturedLog
) -> None:
    async with receiving_process(redis.url) as receiver, receiving_process(redis.url) as sender:
        sender.publish(signal(1))
        await receiver.until_received(comparable(signal(1)))
        await raw.client_kill_filter(_type="normal", skipme=True)
        await raw.ping()
        sender.publish(signal(2))
        await receiver.until_received(comparable(signal(2)))
    assert log.lines.items == []


async def test_many_signals_do_not_starve_other_tasks(redis: Redis) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with receiving_process(redis.url) as receiver, receiving_process(redis.url) as sender:
        flood = [signal(number) for number in range(500)]
        sender.publish(*flood)
        await receiver.until_received(comparable(flood[0]))
        async with running(take_turns()):
            await receiver.until_received(comparable(flood[-1]))
        assert turns > len(flood) / 2


async def test_close_leaves_no_connection(redis: Redis, raw: RawClient) -> None:
    async with receiving_process(redis.url) as receiver, receiving_process(redis.url) as sender:
        sender.publish(signal(1))
        await receiver.until_received(comparable(signal(1)))
        assert len(await other_connections(raw)) == 4
    assert await other_connections(raw) == []


async def test_close_publishes_queued_signals(redis: Redis) -> None:
    async with receiving_process(redis.url) as receiver:
        async with idle_process(redis.url, timeouts=replace(PATIENT, publish_on_close=DEADLINE)) as command:
            command.publish(signal(1))
        await receiver.until_received(comparable(signal(1)))


@pytest.mark.parametrize("make_unavailable", [Redis.pause, Redis.stop])
async def test_close_is_bounded_while_redis_does_not_answer(
    redis: Redis, make_unavailable: Callable[[Redis], None]
) -> None:
    commands = [Process(connect(redis.url, timeouts=PATIENT)) for _ in range(TRIES)]
    async with receiving_process(redis.url) as receiver:
        for number, command in enumerate(commands):
            command.publish(signal(number))
            await receiver.until_received(comparable(signal(number)))
        make_unavailable(redis)
        for command in commands:
            command.publish(signal(100))
        unclosed = iter(commands)
        bound = PATIENT.publish_on_close + 0.5
        assert await quickest(lambda: next(unclosed).bus.close(), bound) < bound
        await asyncio.gather(*[command.bus.close() for command in unclosed])


async def test_password_is_used_and_not_logged(tmp_path: Path, log: CapturedLog) -> None:
    with Redis(tmp_path, "--requirepass", "s3cret/") as redis:
        url = redis.url.replace("//", "//:s3cret%2F@")
        async with receiving_process(url) as receiver, idle_process(url) as sender:
            sender.publish(signal(1))
            await receiver.until_received(comparable(signal(1)))
            async with idle_process(redis.url.replace("//", "//:wr0ng@")) as stranger:
                stranger.publish(signal(2))
                async with running(stranger.receive()):
                    await log.until("unavailable for publishing signals")
                    await log.until("unavailable for receiving signals")
    assert log.count("s3cret") == log.count("wr0ng") == 0


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
def test_invalid_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Misconfigured, match="MICROBLOG_BUS_URL: expected redis://HOST:PORT/NUMBER") as refused:
        connect(url)
    assert "s3cret" not in str(refused.value)


def test_missing_redis_py_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_only_signals_of_subscribed_users_arrive(redis: Redis, raw: RawClient) -> None:
    timeouts = replace(PATIENT, unsubscribe_delay=0.02)
    async with (
        receiving_process(redis.url, timeouts=timeouts, users=[1]) as receiver,
        idle_process(redis.url) as sender,
    ):
        await until_subscribed_to(raw, {b"1"})
        sender.publish(signal(2), signal(1))
        await receiver.until_received(comparable(signal(1)))
        receiver.bus.subscribe(2)
        await receiver.bus.wait_subscribed(2)
        receiver.bus.unsubscribe(1)
        await until_subscribed_to(raw, {b"2"})
        receiver.bus.subscribe(1)
        await receiver.bus.wait_subscribed(1)
        sender.publish(signal(2), signal(1, 11))
        await receiver.until_received(comparable(signal(2)), comparable(signal(1, 11)))
    assert receiver.received.items == [comparable(signal(1)), comparable(signal(2)), comparable(signal(1, 11))]


async def test_resubscription_within_the_delay_sends_no_command(redis: Redis, raw: RawClient) -> None:
    async with receiving_process(redis.url, users=[1]) as receiver:
        before = await subscribe_commands(raw)
        for _ in range(3):
            receiver.bus.unsubscribe(1)
            receiver.bus.subscribe(1)
            await receiver.bus.wait_subscribed(1)
        receiver.bus.subscribe(2)  # its command follows all earlier ones
        await receiver.bus.wait_subscribed(2)
        assert await subscribe_commands(raw) == before + 1


async def test_late_confirmation_yields_a_gap_for_that_user(redis: Redis) -> None:
    async with receiving_process(redis.url, users=[3]) as receiver:
        redis.pause()
        receiver.bus.subscribe(1)
        with short_broker_timeouts(receiver):
            await receiver.bus.wait_subscribed(1)
        receiver.bus.subscribe(2)
        waiting = asyncio.create_task(receiver.bus.wait_subscribed(2))
        await asyncio.sleep(0)
        redis.resume()
        await waiting
        await receiver.until_received((GAP, 1))
    assert receiver.received.items == [(GAP, 1)]


async def test_wait_before_the_first_connection_yields_a_gap(redis: Redis) -> None:
    async with idle_process(redis.url, timeouts=replace(PATIENT, subscribe=0)) as receiver:
        receiver.bus.subscribe(1)
        await receiver.bus.wait_subscribed(1)
        async with running(receiver.receive()):
            await receiver.until_received((GAP, 1))
    assert receiver.received.items == [(GAP, 1)]


async def test_many_users_are_subscribed_in_few_commands(redis: Redis, raw: RawClient) -> None:
    users = range(1500)
    async with (
        receiving_process(redis.url, timeouts=FAST_RETRY, users=[]) as receiver,
        idle_process(redis.url) as sender,
    ):
        before = await subscribe_commands(raw)
        for user_id in users:
            receiver.bus.subscribe(user_id)
        await asyncio.gather(*[receiver.bus.wait_subscribed(user_id) for user_id in users])
        assert len(await users_subscribed_to(raw)) == len(users)
        assert await subscribe_commands(raw) - before <= 2 + len(users) / redis_bus.BATCH
        before = await subscribe_commands(raw)
        await raw.client_kill_filter(_type="pubsub")
        await receiver.until_received(GAP)
        assert len(await users_subscribed_to(raw)) == len(users)
        assert await subscribe_commands(raw) - before <= 2 + len(users) / redis_bus.BATCH
        sender.publish(signal(1499))
        await receiver.until_received(comparable(signal(1499)))
    assert [each for each in receiver.received.items if each[0] != GAP] == [GAP, comparable(signal(1499))]


async def test_subscription_changes_during_an_outage_are_applied(
    redis: Redis, raw: RawClient, log: CapturedLog
) -> None:
    async with receiving_process(redis.url, timeouts=FAST_RETRY, users=[1, 2]) as receiver:
        redis.stop()
        await log.until("unavailable for receiving signals")
        receiver.bus.unsubscribe(1)
        receiver.bus.subscribe(3)
        receiver.bus.subscribe(4)
        receiver.bus.unsubscribe(4)
        redis.start()
        await receiver.until_received(GAP)
        assert {b"2", b"3"} <= await users_subscribed_to(raw)
    assert receiver.received.items == [GAP]

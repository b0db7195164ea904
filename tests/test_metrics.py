"""``/metrics``: each number changes with its event, and every worker gives the same answer."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from microblog_rt import files, metrics, protocol
from microblog_rt.app import create_app
from microblog_rt.hub import Subscriber
from microblog_rt.models import User
from microblog_rt.protocol import Notification, Signal
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from tests.clients import Client, signed_in
from tests.conftest import KEY
from tests.server_process import DEADLINE, Person, Server
from tests.services import Redis
from tests.sockets import change, closed, frame, socket_to
from tests.sockets import code as code_of
from tests.waiting import until

ASKED = 12  # enough for every worker to have been asked
CHANGES_BY_ITSELF = re.compile(r"^microblog_workers_connected .*$", re.M)

Numbers = dict[str, float]


def parsed(text: str) -> Numbers:
    """Every sample by name and labels."""
    families = text_string_to_metric_families(text)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def here() -> Numbers:
    """The metrics of this process."""
    return parsed(metrics.text().decode())


class Grown:
    """The growth of each metric since creation."""

    def __init__(self) -> None:
        self._before = here()

    def __getitem__(self, name: str) -> float:
        return here()[name] - self._before[name]


def of(server: Server) -> Numbers:
    """The metrics of a server, once every worker gives the same stable answer."""
    texts: list[str] = []

    def alike() -> bool:
        texts[:] = [all_of(server) for _ in range(ASKED)]
        return len({CHANGES_BY_ITSELF.sub("", each) for each in texts}) == 1

    until(alike)
    return parsed(texts[-1])


def all_of(server: Server) -> str:
    answer = httpx.get(f"{server.url}/metrics", headers={"Connection": "close"}, timeout=DEADLINE)
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    return answer.text


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as redis:
        yield redis


@pytest.fixture
def workers(tmp_path: Path, redis: Redis) -> Iterator[Server]:
    environ = {"MICROBLOG_BUS_URL": redis.url, "MICROBLOG_SWEEP": "3600", "MICROBLOG_SEND_LIMIT": "2/hour"}
    environ["MICROBLOG_HEARTBEAT"] = "600"  # which the clients here do not acknowledge
    with Server(tmp_path, "--workers", "2", environ=environ) as server:
        yield server


async def test_metrics_are_summed_over_workers(workers: Server) -> None:
    alice, bob = await asyncio.to_thread(people, workers)
    tabs = [await socket_to(bob) for _ in range(8)]
    for tab in tabs:
        await frame(tab)
    for number in (1, 2):
        await asyncio.to_thread(alice.send, "bob", "hello")
        for tab in tabs:
            (news,) = await change(tab)
            assert news["data"] == number
            await tab.send(str(news["timestamp"]))
    refused = await asyncio.to_thread(alice.post, "/send_message/bob", message="once too often")
    assert refused.status_code == 429
    now = await reached(workers, "microblog_commit_to_acknowledge_seconds_count", 16)
    assert now["microblog_tabs websocket"] == 8
    assert now["microblog_sends_total"] == 2
    assert now["microblog_deliveries_total websocket"] == 16
    assert now["microblog_commit_to_send_seconds_count"] == 16
    assert 0 < now["microblog_commit_to_send_seconds_sum"] / 16 < DEADLINE
    assert now["microblog_limits_hit_total send"] == 1
    assert now["microblog_workers"] == 2
    await reached(workers, "microblog_workers_connected", 2)

    await end_a_worker(workers)
    living = [tab for tab in tabs if await lives(tab)]
    await reached(workers, "microblog_tabs websocket", len(living))
    for tab in tabs:
        await tab.close()
    await reached(workers, "microblog_workers", 2)
    after = await reached(workers, "microblog_tabs websocket", 0)
    assert after["microblog_workers"] == 2
    assert after["microblog_workers_replaced_total"] == 1
    for name in ("microblog_sends_total", "microblog_deliveries_total websocket", "microblog_limits_hit_total send"):
        assert after[name] == now[name], "what happened has happened"
    assert after["microblog_commit_to_acknowledge_seconds_bucket +Inf"] == 16
    alice.close()
    bob.close()


def people(server: Server) -> tuple[Person, Person]:
    return server.person("alice"), server.person("bob")


async def reached(server: Server, name: str, value: float) -> Numbers:
    async with asyncio.timeout(DEADLINE):
        while parsed(await asyncio.to_thread(all_of, server))[name] != value:
            pass
    return await asyncio.to_thread(of, server)


async def lives(tab: ClientConnection) -> bool:
    try:
        await (await tab.ping())
    except ConnectionClosed:
        return False
    return True


async def end_a_worker(server: Server) -> None:
    before = server.workers()
    os.kill(min(before), signal.SIGKILL)
    await asyncio.to_thread(until, lambda: len(server.workers() - before) == 1)


async def test_closes_are_counted_by_code(server: Server) -> None:
    bob = await asyncio.to_thread(server.person, "bob")
    for text, code in (("no number", 1003), ("1" * 5000, 1009)):
        tab = await socket_to(bob)
        await tab.send(text)
        assert code_of(await closed(tab)) == code
    babbling = await socket_to(bob)
    for _ in range(21):
        await babbling.send("0")
    await closed(babbling)
    await (await socket_to(bob)).close(4999)
    gone = await socket_to(bob)
    gone.transport.abort()
    now = await reached(server, "microblog_tabs websocket", 0)
    counted = {code: now[f"microblog_closes_total {code}"] for code in ("1003", "1009", "1008", "other", "1006")}
    assert set(counted.values()) == {1}, counted
    assert now["microblog_limits_hit_total frames"] == 1
    bob.close()


async def test_polls_and_deliveries_are_counted(server: Server) -> None:
    alice, bob = await asyncio.to_thread(people, server)
    await asyncio.to_thread(alice.send, "bob", "hello")
    for query in ("?since=0", "?since=9999999999&wait=0.01", "?since=0&wait=0"):
        await asyncio.to_thread(bob.client.get, f"/notifications{query}")
    now = await asyncio.to_thread(of, server)
    assert now["microblog_polls_total poll"] == now["microblog_deliveries_total poll"] == 2
    assert now["microblog_polls_total long_poll"] == now["microblog_deliveries_total long_poll"] == 1
    alice.close()
    bob.close()


async def test_sweep_counts_lost_signals(services: Services, susan: User) -> None:
    tab = Client(services, await signed_in(services, susan))
    await tab.connect()
    grown = Grown()
    await services.feed.sweep_once()
    await services.messages.send_message(susan.id, susan.id, "told")
    await services.feed.sweep_once()
    assert grown["microblog_signals_lost_total"] == 0
    services.hub.deliver = lambda _, **__: None  # type: ignore[method-assign]
    await services.messages.send_message(susan.id, susan.id, "not told")
    del services.hub.deliver
    await services.feed.sweep_once()
    await services.feed.sweep_once()
    assert grown["microblog_signals_lost_total"] == 1
    await tab.disconnect()


def test_replaced_notification_is_counted() -> None:
    subscriber = Subscriber(1)
    subscriber.begin_read()
    subscriber.end_read(10)
    grown = Grown()
    for clock in (11, 12, 13):
        subscriber.deliver(Signal(1, clock, clock - 1, Notification("n", "1", clock)))
    assert grown["microblog_conflated_total"] == 2


async def test_acknowledgement_of_another_cursor_is_not_measured(server: Server) -> None:
    """A client's number is never recorded itself; it only confirms the notification that it names."""
    alice, bob = await asyncio.to_thread(people, server)
    measured = []
    for right in (False, True):
        tab = await socket_to(bob)
        await frame(tab)
        await asyncio.to_thread(alice.send, "bob", "hello")
        (news,) = await change(tab)
        now = str(news["timestamp"])
        for text in (now, now) if right else ("1e308", "-5", "0", "1.5"):
            await tab.send(text)
        await tab.close()
        numbers = await reached(server, "microblog_tabs websocket", 0)
        measured.append(numbers["microblog_commit_to_acknowledge_seconds_count"])
        assert 0 <= numbers["microblog_commit_to_acknowledge_seconds_sum"] < DEADLINE
    assert measured == [0, 1]
    alice.close()
    bob.close()


def test_clock_skew_makes_no_negative_duration() -> None:
    before = here()["microblog_commit_to_send_seconds_sum"]
    metrics.SENT_AFTER.observe(protocol.age(Notification("n", "1", 2**52)))
    assert here()["microblog_commit_to_send_seconds_sum"] == before


def test_histogram_buckets_are_cumulative() -> None:
    grown = Grown()
    for seconds in (0.001, 0.0011, 59.0, 61.0):
        metrics.SENT_AFTER.observe(seconds)
    name = "microblog_commit_to_send_seconds_bucket"
    assert [grown[f"{name} {le}"] for le in ("0.001", "0.0025", "30.0", "60.0", "+Inf")] == [1, 2, 2, 3, 4]


TOKEN = "a token for the scraper alone"


def ask(**more: str) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in more.items()}


@pytest.mark.parametrize(
    ("token", "client", "headers", "status"),
    [
        (None, "127.0.0.1", ask(Host="127.0.0.1:8000"), 200),
        (None, "::1", ask(Host="[::1]:8000"), 200),
        (None, "127.0.0.1", ask(Host="rebound.example"), 404),
        (None, "127.0.0.1", ask(X_Forwarded_For="127.0.0.1"), 404),
        (None, "127.0.0.1", ask(Forwarded="for=127.0.0.1"), 404),
        (None, "192.0.2.1", ask(Host="127.0.0.1"), 404),
        (None, "192.0.2.1", ask(Authorization=f"Bearer {TOKEN}"), 404),
        (TOKEN, "192.0.2.1", ask(Authorization=f"Bearer {TOKEN}", Host="any.example"), 200),
        (TOKEN, "192.0.2.1", ask(Authorization="Bearer another"), 404),
        (TOKEN, "127.0.0.1", ask(), 404),
    ],
)
async def test_metrics_require_loopback_or_token(
    tmp_path: Path, token: str | None, client: str, headers: dict[str, str], status: int
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/none.db"
    app = create_app(Settings(database_url=url, secret_key=KEY, metrics_token=token))
    transport = httpx.ASGITransport(app=app, client=(client, 5))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as asking:
        answer = await asking.get("/metrics", headers=headers)
    await app.extensions["services"].close()
    assert answer.status_code == status
    assert (b"microblog_tabs" in answer.content) == (status == 200)


def test_every_metric_is_documented() -> None:
    manual = (files.CHECKOUT / "docs" / "operations.md").read_text()
    names = re.findall(r"^# TYPE (\w+) ", metrics.text().decode(), re.MULTILINE)
    assert len(names) > 15
    assert [name for name in names if f"`{name}" not in manual] == []

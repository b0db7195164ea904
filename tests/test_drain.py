"""Graceful shutdown: readiness first, tabs closed one after the other, everything else served to the end."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from microblog_rt.hub import Hub
from microblog_rt.server.drain import drain
from tests.reconnecting_clients import all_connected, most_at_once, returners
from tests.server_process import DEADLINE, Person, Server
from tests.sockets import closed, code, cursor, frame, refused, socket_to
from tests.timing import LoadMonitor
from tests.waiting import until

SECONDS = 2.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, environ={"MICROBLOG_DRAIN": str(SECONDS), "MICROBLOG_TABS_PER_USER": ""}) as server:
        yield server


@pytest.fixture
def bob(server: Server) -> Iterator[Person]:
    bob = server.person("bob")
    yield bob
    bob.close()


@asynccontextmanager
async def tabs(person: Person, number: int) -> AsyncIterator[list[ClientConnection]]:
    opened = [await socket_to(person) for _ in range(number)]
    for tab in opened:
        await frame(tab)
    yield opened
    for tab in opened:
        await tab.close()


async def test_drain_staggers_closes_with_reconnect_times(
    server: Server, bob: Person, load_monitor: LoadMonitor
) -> None:
    async with tabs(bob, 20) as opened:
        ending = asyncio.create_task(asyncio.to_thread(server.stop))
        start = time.monotonic()

        async def end_of(tab: ClientConnection) -> tuple[float, int | None, int]:
            end = await closed(tab)
            assert end.rcvd is not None
            return time.monotonic() - start, code(end), int(end.rcvd.reason)

        ends = sorted(await asyncio.gather(*map(end_of, opened)))
        assert {code for _, code, _ in ends} == {1012}
        times = [moment for moment, _, _ in ends]
        waited = load_monitor.paused()
        assert times[10] - times[0] > 0.3 * SECONDS - waited
        assert times[19] - times[0] > 0.8 * SECONDS - waited
        returns = [moment + back / 1000 for moment, _, back in ends]
        assert min(back for _, _, back in ends) >= 1000 * SECONDS * 19 / 20, "not before the last has left"
        assert max(returns) - min(returns) > 0.5 * SECONDS
        assert await ending == 0
    assert server.warnings_logged() == []


async def test_drain_refuses_new_tabs_and_serves_the_rest(server: Server, bob: Person) -> None:
    server.stop()
    server.environ["MICROBLOG_DRAIN"] = "120"  # long enough for the checks
    server.start()
    async with tabs(bob, 2) as (one, other):
        server.signal(signal.SIGTERM)
        await asyncio.wait(
            [asyncio.create_task(closed(one)), asyncio.create_task(closed(other))], return_when="FIRST_COMPLETED"
        )
        ready = await asyncio.to_thread(bob.client.get, "/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (await asyncio.to_thread(bob.client.get, "/healthz")).status_code == 200
        refusal = (await refused(socket_to(bob))).response
        assert refusal.status_code == 503
        assert 1 <= int(refusal.headers["Retry-After"]) <= 63  # after the last has left, plus some scatter
        held = await asyncio.to_thread(bob.client.get, "/notifications?wait=10")
        assert (held.status_code, held.json()["code"]) == (503, "draining")
        assert int(held.headers["Retry-After"]) >= 1
        polled = await asyncio.to_thread(bob.client.get, "/notifications")
        assert (polled.status_code, polled.headers["Connection"]) == (200, "close")
        await asyncio.to_thread(bob.send, "alice", "while it drains")
        assert await asyncio.to_thread(server.stop) == 0


def test_drain_answers_held_polls(server: Server, bob: Person) -> None:
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(bob.client.get, "/notifications", params={"since": cursor(bob), "wait": 25})
        until(lambda: server.holds() == 1)
        assert server.stop() == 0
        assert (held.result(DEADLINE).status_code, held.result().json()) == (200, [])


def test_endless_request_delays_stop_only_briefly(server: Server, load_monitor: LoadMonitor) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /auth/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\nx")
        httpx.get(f"{server.url}/healthz", timeout=DEADLINE)
        start = time.time()
        assert server.stop() == 0
        assert time.time() - start < load_monitor.allows(5, start)


async def test_second_signal_stops_at_once(server: Server, bob: Person, load_monitor: LoadMonitor) -> None:
    server.stop()
    server.environ["MICROBLOG_DRAIN"] = "600"
    server.start()
    async with tabs(bob, 5) as opened:
        server.signal(signal.SIGINT)
        ends = [asyncio.create_task(closed(tab)) for tab in opened]
        await asyncio.wait(ends, return_when="FIRST_COMPLETED")
        start = time.time()
        status = await asyncio.to_thread(server.stop, signal.SIGTERM)
        assert (status, [code(await end) for end in ends]) == (0, [1012] * 5)
        assert time.time() - start < load_monitor.allows(5, start)
    assert server.warnings_logged() == []


async def test_hub_without_subscribers_drains_at_once() -> None:
    async with asyncio.timeout(DEADLINE):
        await drain(Hub(), 600, asyncio.Event())


async def test_tabs_return_as_spread_as_they_were_closed(
    server: Server, bob: Person, load_monitor: LoadMonitor
) -> None:
    """Clients that wait as the close reason says; ``benchmarks drain`` does it with a thousand."""
    async with returners(server.url, [bob.cookie()] * 60) as tabs:
        start = time.time()
        assert await asyncio.to_thread(server.stop) == 0
        at_most = (
            30 + len(tabs) * load_monitor.paused(start) / SECONDS
        )  # tabs due while the machine was stopped are closed together
        await asyncio.to_thread(server.start)
        await all_connected(tabs, 2)
        assert {each.codes[0] for each in tabs} == {1012}
        assert most_at_once([each.left[0] for each in tabs], 0.5) <= at_most
        assert most_at_once([each.due[0] for each in tabs], 0.5) <= at_most
        assert [len(each.there) for each in tabs] == [2] * 60
    assert server.warnings_logged() == []

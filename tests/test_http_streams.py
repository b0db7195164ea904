"""``/notifications`` as server-sent events and JSON lines, over real sockets, from a real server process.

From the push edge, and from the ASGI application under another server. See also: ``test_event_streams.py``.
"""

import asyncio
import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.event_streams import KINDS, NDJSON, SSE, Lines, streaming
from tests.http_client import get
from tests.server_process import COMMAND, DEADLINE, AsgiServer, Person, Server
from tests.sockets import cursor, frame, refused, socket_to
from tests.timing import LoadMonitor
from tests.waiting import until

SERVERS = {"asyncio": Server, "uvloop": Server, "asgi": AsgiServer}
LIMIT = 3
HEARTBEAT = "0.2"  # seconds

both = pytest.mark.parametrize("accept", [SSE, NDJSON])


@pytest.fixture(scope="module", params=SERVERS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for tests that leave no state behind; its log must be empty at the end (I7)."""
    environ = {"MICROBLOG_HEARTBEAT": HEARTBEAT, "MICROBLOG_SWEEP": "0.2"}
    if request.param != "asgi":
        environ["MICROBLOG_EVENT_LOOP"] = request.param
    with SERVERS[request.param](tmp_path_factory.mktemp("server"), environ=environ) as server:
        yield server
    assert server.logged() == ""


@pytest.fixture(scope="module")
def alice(shared: Server) -> Iterator[Person]:
    alice = shared.person("alice")
    yield alice
    alice.close()


@pytest.fixture(scope="module")
def signed_in(shared: Server) -> Iterator[Person]:
    bob = shared.person("bob")
    yield bob
    bob.close()


@pytest.fixture
def bob(signed_in: Person) -> Person:
    signed_in.post("/messages/read")
    return signed_in


def open_streams(server: Server, kind: str) -> int:
    """The open streams of that kind, from the metrics."""
    numbers = httpx.get(f"{server.url}/metrics", timeout=DEADLINE).text
    found = re.search(rf'^microblog_tabs{{transport="{kind}"}} (\d+)', numbers, re.MULTILINE)
    assert found, numbers
    return int(found[1])


@both
async def test_headers_and_first_line_are_sent_at_once(bob: Person, accept: str) -> None:
    async with streaming(bob, f"?since={cursor(bob)}", accept) as stream:
        assert stream.headers["Content-Type"] == accept
        assert stream.headers["Cache-Control"] == "no-store"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert stream.headers["Heartbeat"] == HEARTBEAT
        assert "Poll-After" not in stream.headers
        await stream.opened()


@both
async def test_stream_catches_up_then_sends_each_change(alice: Person, bob: Person, accept: str) -> None:
    since = cursor(bob)
    await asyncio.to_thread(alice.send, "bob", "before")
    async with streaming(bob, f"?since={since}", accept) as stream:
        await stream.opened()
        caught_up = await stream.change()
        assert [caught_up] == bob.client.get("/notifications", params={"since": since}).json()
        await asyncio.to_thread(alice.send, "bob", "hello")
        received = await stream.change()
        assert received["data"] == caught_up["data"] + 1
        assert [received] == bob.client.get("/notifications", params={"since": since}).json()


@both
async def test_heartbeats_are_sent(bob: Person, accept: str) -> None:
    async with streaming(bob, f"?since={cursor(bob)}", accept) as stream:
        await stream.opened()
        for _ in range(3):
            await stream.heartbeat()


@both
async def test_names_select_notifications(alice: Person, bob: Person, accept: str) -> None:
    async with streaming(bob, "?name=other&name=another", accept) as stream:
        await stream.opened()
        await asyncio.to_thread(alice.send, "bob", "hello")
        await stream.heartbeat()
        await stream.heartbeat()


@both
async def test_wait_is_ignored(bob: Person, accept: str) -> None:
    async with streaming(bob, f"?since={cursor(bob)}&wait=0.01", accept) as stream:
        await stream.opened()
        for _ in range(3):
            await stream.heartbeat()


async def test_last_event_id_wins_over_since(alice: Person, bob: Person) -> None:
    await asyncio.to_thread(alice.send, "bob", "one")
    async with streaming(bob, "?since=0") as stream:
        await stream.change()
        last = stream.last
    async with streaming(bob, "?since=0", headers={"Last-Event-ID": last}) as stream:
        await stream.opened()
        await asyncio.to_thread(alice.send, "bob", "two")
        assert (await stream.change())["timestamp"] > float(last)


async def test_last_event_id_applies_to_event_streams_only(alice: Person, bob: Person) -> None:
    await asyncio.to_thread(alice.send, "bob", "hello")
    ahead = {"Last-Event-ID": repr(cursor(bob))}
    expected = bob.client.get("/notifications").json()
    assert expected
    assert bob.client.get("/notifications", headers=ahead).json() == expected
    async with streaming(bob, "?since=0", NDJSON, ahead) as stream:
        assert [await stream.change()] == expected


BAD_IDS: list[Any] = ["nan", "inf", "-1", "1e309", "", "x", "1_0", "0x1"]


@pytest.mark.parametrize("sent", BAD_IDS)
def test_invalid_last_event_id_is_refused(bob: Person, sent: str) -> None:
    answer = bob.client.get("/notifications?since=0", headers={"Accept": SSE, "Last-Event-ID": sent})
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["code"] == "bad_request"


def test_last_event_id_given_twice_is_refused(bob: Person) -> None:
    answer = bob.client.get("/notifications", headers=[("Accept", SSE), ("Last-Event-ID", "1"), ("Last-Event-ID", "1")])
    assert answer.status_code == 400


@both
def test_errors_are_answered_before_the_stream(shared: Server, bob: Person, accept: str) -> None:
    requests: list[tuple[int, str, str, dict[str, str]]] = [
        (401, "signed_out", "", {"Cookie": f"{bob.session_cookie}=x"}),
        (401, "signed_out", "?user=999999", {"Cookie": bob.cookie()}),
        (403, "origin_foreign", "", {"Cookie": bob.cookie(), "Origin": "https://evil.example"}),
        (400, "bad_request", "?since=nan", {"Cookie": bob.cookie()}),
        (400, "bad_request", "?wait=x", {"Cookie": bob.cookie()}),
    ]
    for status, code, query, headers in requests:
        answer = httpx.get(f"{shared.url}/notifications{query}", headers={"Accept": accept, **headers})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)


@both
def test_head_has_the_headers_and_no_body(shared: Server, bob: Person, accept: str) -> None:
    answer = bob.client.head("/notifications", headers={"Accept": accept})
    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer.headers["Content-Type"], answer.headers["Heartbeat"]) == (accept, HEARTBEAT)
    assert "Content-Length" not in answer.headers
    signed_out = httpx.head(f"{shared.url}/notifications", headers={"Accept": accept})
    assert signed_out.status_code == 401
    until(lambda: open_streams(shared, KINDS[accept]) == 0)


@pytest.mark.parametrize("accept", ["*/*", "text/*", "text/html, */*;q=0.8", "text/event-stream;q=0, */*"])
def test_other_accept_gets_the_json_array(bob: Person, accept: str) -> None:
    answer = bob.client.get("/notifications", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "application/json"


@both
async def test_sign_out_ends_only_that_sessions_streams(
    shared: Server, bob: Person, accept: str, load_monitor: LoadMonitor
) -> None:
    other = await asyncio.to_thread(shared.person, "bob")
    cookie = other.cookie()
    async with (
        streaming(bob, f"?since={cursor(bob)}", accept) as stream,
        streaming(other, f"?since={cursor(bob)}", accept) as others,
    ):
        await stream.opened()
        await others.opened()
        start = time.time()
        await asyncio.to_thread(other.post, "/auth/logout")
        assert set(await others.rest()) <= {":", ""}
        assert time.time() - start < load_monitor.allows(1, start)
        await stream.heartbeat()
    again = await get(shared.url, cookie, accept=accept)
    assert (again.status_code, again.json()["code"]) == (401, "signed_out")
    other.close()


async def test_sweep_ends_streams_of_sessions_that_another_process_ended(shared: Server) -> None:
    await user_command(shared, "add", "carol")
    carol = await asyncio.to_thread(shared.person, "carol")
    async with streaming(carol) as stream, streaming(carol, "?name=x", NDJSON) as lines:
        await stream.opened()
        await lines.opened()
        await user_command(shared, "password", "carol")
        assert set(await stream.rest()) <= {":"}
        assert set(await lines.rest()) <= {""}
    carol.close()


async def user_command(server: Server, command: str, name: str) -> None:
    """``microblog-rt user add`` or ``password``, with the password of the demo accounts."""
    process = await asyncio.create_subprocess_exec(
        *[*COMMAND, "user", command, name],
        cwd=server.folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    await process.communicate(f"{server.password}\n".encode())
    assert process.returncode == 0


@both
async def test_clients_that_disconnect_are_forgotten(shared: Server, bob: Person, accept: str) -> None:
    """Closed, or half-closed."""
    kind = KINDS[accept]
    async with streaming(bob, f"?since={cursor(bob)}", accept) as stream:
        await stream.opened()
        await asyncio.to_thread(until, lambda: open_streams(shared, kind) == 1)
    await asyncio.to_thread(until, lambda: open_streams(shared, kind) == 0)
    head = f"GET /notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {bob.cookie()}\r\nAccept: {accept}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shared.port), timeout=DEADLINE) as half_closed:
        half_closed.sendall(head.encode())
        assert half_closed.recv(12) == b"HTTP/1.1 200"
        half_closed.shutdown(socket.SHUT_WR)
        await asyncio.to_thread(until, lambda: open_streams(shared, kind) == 0)


@both
def test_http_1_0_gets_a_body_without_chunks(bob: Person, shared: Server, accept: str) -> None:
    head = f"GET /notifications HTTP/1.0\r\nHost: 127.0.0.1\r\nCookie: {bob.cookie()}\r\nAccept: {accept}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shared.port), timeout=DEADLINE) as client:
        client.sendall(head.encode())
        received = b""
        beginning = b"\r\n\r\n:\nretry: " if accept == SSE else b"\r\n\r\n\n"
        while beginning not in received:
            received += client.recv(4096)
        assert b"transfer-encoding" not in received.lower()


async def test_reconnecting_client_misses_and_repeats_nothing(alice: Person, bob: Person) -> None:
    """A client that disconnects after every other event, beside a sender: each id is newer than the one before."""
    sends = 30
    await asyncio.to_thread(alice.send, "bob", "the first")
    since = last = repr(cursor(bob))
    start = bob.client.get("/notifications").json()[-1]["data"]
    received: list[dict[str, Any]] = []

    async def send() -> None:
        for number in range(sends):
            await asyncio.to_thread(alice.send, "bob", f"number {number}")

    sending = asyncio.create_task(send())
    while not received or received[-1]["data"] != start + sends:
        async with streaming(bob, f"?since={since}", headers={"Last-Event-ID": last}) as stream:
            for _ in range(2):
                received.append(await stream.change())
                last = stream.last
                if received[-1]["data"] == start + sends:
                    break
    await sending
    stamps = [each["timestamp"] for each in received]
    assert stamps == sorted(set(stamps))
    counts = [each["data"] for each in received]
    assert counts == sorted(set(counts))


async def test_streams_after_a_page_on_the_same_connection(bob: Person) -> None:
    async with httpx.AsyncClient(base_url=bob.server.url, timeout=DEADLINE, cookies=bob.client.cookies) as client:
        assert (await client.get("/auth/login", follow_redirects=True)).status_code == 200
        async with client.stream("GET", "/notifications?name=x", headers={"Accept": SSE}) as response:
            await Lines(response).opened()


# Limits and the end of the process, on a server of their own


@pytest.fixture(params=SERVERS)
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with SERVERS[request.param](tmp_path, environ={"MICROBLOG_TABS_PER_USER": str(LIMIT)}) as server:
        yield server


async def test_streams_count_as_tabs(limited: Server) -> None:
    bob = await asyncio.to_thread(limited.person, "bob")
    async with streaming(bob) as one, streaming(bob, accept=NDJSON) as two:
        await one.opened()
        await two.opened()
        async with socket_to(bob) as tab:
            await frame(tab)
            answer = await asyncio.to_thread(bob.client.get, "/notifications", headers={"Accept": SSE})
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many")
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await refused(socket_to(bob))).response.status_code == 429
    await asyncio.to_thread(until, lambda: open_streams(limited, "sse") == open_streams(limited, "ndjson") == 0)
    async with streaming(bob) as one:
        await one.opened()
    bob.close()


SECONDS = 2.0


@pytest.fixture
def draining(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, environ={"MICROBLOG_DRAIN": str(SECONDS), "MICROBLOG_TABS_PER_USER": ""}) as server:
        yield server


async def test_drain_ends_streams_spread_with_their_retry(draining: Server, load_monitor: LoadMonitor) -> None:
    bob = await asyncio.to_thread(draining.person, "bob")
    since = cursor(bob)
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(streaming(bob, f"?since={since}")) for _ in range(10)]
        for each in opened:
            await each.opened()
        ending = asyncio.create_task(asyncio.to_thread(draining.stop))
        start = time.monotonic()

        async def end_of(stream: Lines) -> tuple[float, int]:
            (line,) = await stream.rest()
            return time.monotonic() - start, int(line.removeprefix("retry: "))

        ends = sorted(await asyncio.gather(*map(end_of, opened)))
    waited = load_monitor.paused()
    assert ends[9][0] - ends[0][0] > 0.6 * SECONDS - waited
    assert min(back for _, back in ends) >= 1000 * SECONDS * 9 / 10, "not before the last has left"
    assert await ending == 0
    assert draining.warnings_logged() == []
    bob.close()


async def test_draining_server_refuses_streams(draining: Server) -> None:
    draining.environ["MICROBLOG_DRAIN"] = "120"  # long enough for the checks
    await asyncio.to_thread(draining.stop)
    await asyncio.to_thread(draining.start)
    bob = await asyncio.to_thread(draining.person, "bob")
    async with streaming(bob, "?name=x") as one, streaming(bob, "?name=x") as other:
        await one.opened()
        await other.opened()
        ends = [asyncio.create_task(each.rest()) for each in (one, other)]
        draining.signal(signal.SIGTERM)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        answer = await asyncio.to_thread(bob.client.get, "/notifications", headers={"Accept": SSE})
        assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        assert int(answer.headers["Retry-After"]) >= 1
        assert await asyncio.to_thread(draining.stop) == 0
        await asyncio.gather(*ends)
    bob.close()


async def test_killed_server_breaks_the_stream_visibly(tmp_path: Path) -> None:
    """The body is chunked: a client can tell a lost connection from an end, and resumes where it was."""
    with Server(tmp_path) as server:
        alice, bob = server.person("alice"), server.person("bob")
        since = cursor(bob)
        async with streaming(bob, f"?since={since}") as stream:
            await stream.opened()
            await asyncio.to_thread(alice.send, "bob", "acknowledged")
            assert (await stream.change())["data"] == 1
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            with pytest.raises(httpx.RemoteProtocolError):
                await stream.rest()
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(alice.send, "bob", "meanwhile")
        async with streaming(bob, f"?since={since}", headers={"Last-Event-ID": stream.last}) as stream:
            await stream.opened()
            assert (await stream.change())["data"] == 2
        alice.close()
        bob.close()


def test_json_lines_parse_alone(alice: Person, bob: Person) -> None:
    alice.send("bob", "hello")
    with bob.client.stream("GET", "/notifications", headers={"Accept": NDJSON}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ""
        assert set(json.loads(next(lines))) == {"name", "data", "timestamp"}

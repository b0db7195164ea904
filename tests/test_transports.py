"""``/notifications`` over real sockets, from a real server process: poll, long poll, WebSocket.

From the push edge, and from the ASGI application under another server.
"""

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.server_process import DEADLINE, AsgiServer, Person, Server
from tests.sockets import change, closed, code, cursor, frame, refused, socket_to

SERVER_ENVIRONMENT = {"MICROBLOG_HEARTBEAT": "0.3", "MICROBLOG_SWEEP": "0.2"}


SERVERS = {"asyncio": Server, "uvloop": Server, "asgi": AsgiServer}

# What another server decides: its limits of frames, and compression.
edge_only = pytest.mark.parametrize("shared", ["asyncio", "uvloop"], indirect=True)


@pytest.fixture(scope="module", params=SERVERS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for tests that leave no state behind; its log must be empty at the end (I7)."""
    loop = {} if request.param == "asgi" else {"MICROBLOG_EVENT_LOOP": request.param}
    with SERVERS[request.param](tmp_path_factory.mktemp("server"), environ=SERVER_ENVIRONMENT | loop) as server:
        yield server
    assert server.logged() == ""


@pytest.fixture
def alice(shared: Server) -> Iterator[Person]:
    alice = shared.person("alice")
    yield alice
    alice.close()


@pytest.fixture
def bob(shared: Server) -> Iterator[Person]:
    bob = shared.person("bob")
    bob.post("/messages/read")
    yield bob
    bob.close()


# Poll


def test_poll_returns_newer_notifications_and_poll_after(alice: Person, bob: Person) -> None:
    since = cursor(bob)
    alice.send("bob", "hello")
    answer = bob.client.get("/notifications", params={"since": since})
    (received,) = answer.json()
    assert received["name"] == "unread_message_count"
    assert received["timestamp"] > since
    assert answer.headers["Poll-After"] == "5"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    assert bob.client.get("/notifications", params={"since": received["timestamp"]}).text == "[]"
    assert bob.client.get("/notifications").json() == [received]
    assert bob.client.get("/notifications", params={"since": received["timestamp"] + 1e6}).json() == [received]
    assert bob.client.head("/notifications").status_code == 200


BAD_QUERIES = [
    "since=nan",
    "since=inf",
    "since=-1",
    "since=1e309",
    "since=",
    "since=x",
    "since=1&since=1",
    "wait=x",
    "wait=nan",
    "wait=1&wait=1",
    "wait=",
    "&".join(["name=x"] * 101),
    "&".join(["name=x"] * 1000),
]


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_invalid_query_is_refused(bob: Person, query: str) -> None:
    answer = bob.client.get(f"/notifications?{query}")
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "bad_request"


@pytest.mark.parametrize("cookie", ["", "SESSION=x", "SESSION=x.y.z", "other=1"])
def test_no_session_is_401_and_never_a_redirect(shared: Server, bob: Person, cookie: str) -> None:
    cookie = cookie.replace("SESSION", bob.session_cookie)
    for query in ("", "?wait=10"):
        answer = httpx.get(f"{shared.url}/notifications{query}", headers={"Cookie": cookie})
        assert answer.status_code == 401
        assert answer.json()["code"] == "signed_out"
        assert answer.headers["WWW-Authenticate"].startswith("Cookie realm=")


ORIGINS = [
    "https://evil.example",
    "null",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:8000",
    "",
    "http://127.0.0.1.evil.example",
]


@pytest.mark.parametrize("origin", ORIGINS)
def test_poll_from_a_foreign_origin_is_refused(bob: Person, origin: str) -> None:
    answer = bob.client.get("/notifications", headers={"Origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_foreign")


def test_only_get_is_allowed(bob: Person) -> None:
    for method in ("POST", "FOO", "TRACE"):
        answer = bob.client.request(method, "/notifications")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


# Long poll


def test_long_poll_returns_when_something_happens(alice: Person, bob: Person) -> None:
    since = cursor(bob)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(bob.client.get, "/notifications", params={"since": since, "wait": 20})
        alice.send("bob", "hello")
        answer = held.result(DEADLINE)
    assert answer.json()[0]["timestamp"] > since
    assert "Poll-After" not in answer.headers
    assert answer.elapsed.total_seconds() < 10


@pytest.mark.parametrize("wait", ["0", "0.05", "-3"])
def test_long_poll_times_out_empty(bob: Person, wait: str) -> None:
    assert bob.client.get("/notifications", params={"since": cursor(bob), "wait": wait}).json() == []


def test_abandoned_long_poll_leaves_the_server_healthy(alice: Person, bob: Person) -> None:
    with pytest.raises(httpx.ReadTimeout):
        bob.client.get("/notifications", params={"since": cursor(bob), "wait": 20}, timeout=0.1)
    alice.send("bob", "hello")
    assert bob.client.get("/notifications").json() != []


# WebSocket


async def test_first_frame_catches_up_then_one_per_change(alice: Person, bob: Person) -> None:
    since = cursor(bob)
    async with socket_to(bob, f"?since={since}") as tab:
        assert await frame(tab) == []
        before = bob.client.get("/notifications").json()[0]["data"]
        await asyncio.to_thread(alice.send, "bob", "hello")
        (received,) = await change(tab)
        assert received["data"] == before + 1
        assert bob.client.get("/notifications", params={"since": since}).json() == [received]
    async with socket_to(bob, f"?since={since}") as tab:
        assert await frame(tab) == [received]


async def test_names_select_notifications(alice: Person, bob: Person) -> None:
    async with socket_to(bob, "?name=other&name=another") as tab:
        assert await frame(tab) == []
        await asyncio.to_thread(alice.send, "bob", "hello")
        assert await frame(tab) == []  # a heartbeat


@edge_only
async def test_handshake_sends_heartbeat_and_no_extension(bob: Person) -> None:
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits=abc, x-other"}
    async with socket_to(bob, headers=offer) as tab:
        assert tab.response is not None
        assert tab.response.headers["Heartbeat"] == "0.3"
        assert "Sec-WebSocket-Extensions" not in tab.response.headers
        assert await frame(tab) is not None


@edge_only
async def test_compression_offer_is_not_accepted(bob: Person) -> None:
    async with connect(
        bob.server.url.replace("http", "ws") + "/notifications",
        origin=bob.server.url,  # type: ignore[arg-type]
        additional_headers={"Cookie": bob.cookie()},
        compression="deflate",
    ) as tab:
        assert tab.protocol.extensions == []
        await frame(tab)


async def test_heartbeats_are_sent_and_acks_accepted(bob: Person) -> None:
    async with socket_to(bob) as tab:
        await frame(tab)
        for _ in range(4):
            assert await frame(tab) == []
            await tab.send("0")


async def test_client_that_stops_acknowledging_is_closed(bob: Person) -> None:
    async with socket_to(bob) as tab:
        await frame(tab)
        await frame(tab)
        await tab.send("1.5")
        assert code(await closed(tab)) == 4408


async def test_client_that_never_acknowledges_stays_open(bob: Person) -> None:
    async with socket_to(bob) as tab:
        for _ in range(6):  # heartbeats: more than twice the limit of unanswered ones
            await frame(tab)


REFUSED_FRAMES = [
    ("no number", 1003),
    ("[]", 1003),
    ("NaN", 1003),
    ("1e999", 1003),
    (b"1", 1003),
    (b"", 1003),
    ("", 1003),
]


@pytest.mark.parametrize(("sent", "expected"), REFUSED_FRAMES)
async def test_frame_that_is_no_acknowledgement_closes(bob: Person, sent: str | bytes, expected: int) -> None:
    async with socket_to(bob) as tab:
        await frame(tab)
        await tab.send(sent)
        assert code(await closed(tab)) == expected


@edge_only
async def test_too_long_frame_closes(bob: Person) -> None:
    async with socket_to(bob) as tab:
        await frame(tab)
        await tab.send("1" * 4097)
        assert code(await closed(tab)) == 1009


@edge_only
async def test_too_many_frames_close(bob: Person) -> None:
    async with socket_to(bob) as tab:
        await frame(tab)
        for _ in range(21):
            await tab.send("1")
        assert code(await closed(tab)) == 1008


@pytest.mark.parametrize("origin", [*ORIGINS, None])
async def test_websocket_with_cookie_requires_own_origin(bob: Person, origin: str | None) -> None:
    answer = (await refused(socket_to(bob, origin=origin))).response
    assert answer.status_code == 403
    assert json.loads(answer.body or b"")["code"] == ("origin_foreign" if origin is not None else "origin_missing")


async def test_websocket_without_session_is_refused(shared: Server, bob: Person) -> None:
    answer = (await refused(socket_to(bob, headers={"Cookie": f"{bob.session_cookie}=x"}))).response
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "application/problem+json")


async def test_websocket_with_bad_cursor_is_refused(bob: Person) -> None:
    assert (await refused(socket_to(bob, "?since=nan"))).response.status_code == 400


async def test_sign_out_closes_only_that_sessions_websockets(shared: Server, bob: Person) -> None:
    other = await asyncio.to_thread(shared.person, "bob")
    async with socket_to(bob) as tab, socket_to(other) as others_tab:
        await frame(tab)
        await frame(others_tab)
        await asyncio.to_thread(other.post, "/auth/logout")
        assert code(await closed(others_tab)) == 4401
        await frame(tab)
    other.close()


async def test_sweep_finds_changes_of_another_process(shared: Server, bob: Person) -> None:
    """A password set on the command line closes the socket within a sweep."""
    from tests.server_process import COMMAND

    async with socket_to(bob) as tab:
        await frame(tab)
        command = await asyncio.create_subprocess_exec(
            *COMMAND,
            "user",
            "password",
            "bob",
            cwd=shared.folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        await command.communicate(f"{shared.password}\n".encode())
        assert command.returncode == 0
        assert code(await closed(tab)) == 4401


# Stopping


def test_server_without_clients_stops_at_once(server: Server) -> None:
    assert server.stop() == 0
    assert server.logged() == ""


def test_kept_connection_does_not_delay_stop(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(100)
        assert server.stop() == 0


async def test_tabs_reconnect_after_a_kill_and_miss_nothing(tmp_path: Path) -> None:
    """After kill -9 everything acknowledged is stored; a reconnect is an ordinary start."""
    import signal

    with Server(tmp_path) as server:
        alice, bob = server.person("alice"), server.person("bob")
        async with socket_to(bob) as tab:
            await frame(tab)
            since = cursor(bob)
            await asyncio.to_thread(alice.send, "bob", "acknowledged")
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            await closed(tab)
        await asyncio.to_thread(server.start)
        async with socket_to(bob, f"?since={since}") as tab:
            (received,) = await frame(tab)
            assert received["data"] == 1
        alice.close()
        bob.close()

"""The push edge over real sockets: which requests it serves, in which pieces they may arrive, and how they end.

See also: ``test_push_pages.py``, beside the real application; ``test_rfc6455.py`` for frames.
"""

import asyncio
import contextlib
import gc
import json
import re
import socket
import struct
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from microblog_rt import metrics
from microblog_rt.protocol import Notification
from microblog_rt.push import connection as push
from microblog_rt.push import request, turns
from microblog_rt.server.drain import drain
from microblog_rt.timeouts import Timeouts
from tests.asgi_server import (
    HANDSHAKE,
    Expiring,
    RawClient,
    Serving,
    client_frame,
    live,
    raw_client,
    serving,
    warnings_logged,
)
from tests.raw_responses import response, rest, until
from tests.server_process import DEADLINE

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

POLL = b"GET /notifications?since=1 HTTP/1.1\r\nHost: x\r\n\r\n"
HELD = b"GET /notifications?wait=30 HTTP/1.1\r\nHost: x\r\n\r\n"
PAGE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
TAB = HANDSHAKE + b"\r\n"


async def send_in_bytes(client: RawClient, data: bytes) -> None:
    """Send ``data`` in packets of one byte."""
    for byte in data:
        await client.send(bytes([byte]))
        for _ in range(3):  # the server reads meanwhile
            await asyncio.sleep(0)


class Recording:
    """An application that answers every request with "ok" and records method and path."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        self.requests.append((scope["method"], scope["path"]))
        body = b""
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body += event["body"]
            if not event["more_body"]:
                break
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def app() -> Recording:
    return Recording()


@pytest.fixture
async def it(app: Recording, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Serving]:
    """An edge with a stub feed. Nothing may be logged, and no tab may remain in the gauges."""
    before = tabs()
    async with serving(app) as it:
        yield it
    assert warnings_logged(caplog.records) == []
    assert tabs() == before


@pytest.fixture
async def client(it: Serving) -> AsyncIterator[RawClient]:
    async with raw_client(it.port) as client:
        yield client


def tabs() -> tuple[float, float]:
    """The open WebSockets and the held polls, according to the metrics."""
    return metrics.WEBSOCKETS.value(metrics._own), metrics.LONG_POLLS.value(metrics._own)


# Which server serves


async def test_poll_in_one_byte_pieces_is_served(client: RawClient, app: Recording) -> None:
    for _ in range(2):
        await send_in_bytes(client, POLL)
        assert (await response(client)).body == b"[]"
    assert app.requests == []


async def test_handshake_in_one_byte_pieces_is_served(it: Serving, client: RawClient) -> None:
    await send_in_bytes(client, TAB)
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert await client.frame() == (0x81, b"[]")
    await send_in_bytes(client, client_frame(0x89, b"ping"))
    assert await client.frame() == (0x8A, b"ping")


async def test_poll_and_page_in_turn_in_one_byte_pieces(client: RawClient, app: Recording) -> None:
    for _ in range(2):
        await send_in_bytes(client, PAGE)
        assert (await response(client)).body == b"ok"
        await send_in_bytes(client, POLL)
        assert (await response(client)).body == b"[]"
    assert app.requests == [("GET", "/")] * 2


async def test_poll_after_a_page_is_served_by_the_edge(client: RawClient, app: Recording) -> None:
    for _ in range(3):
        await client.send(POLL)
        assert (await response(client)).body == b"[]"
        await client.send(PAGE)
        assert (await response(client)).body == b"ok"
    assert app.requests == [("GET", "/")] * 3


async def test_pipelined_polls_and_pages_are_answered_in_order(client: RawClient, app: Recording) -> None:
    """Hypercorn also serves the polls that arrive behind a page, until it has caught up."""
    await client.send(POLL + POLL + PAGE + POLL + PAGE + PAGE)
    assert [(await response(client)).body for _ in range(6)] == [b"[]", b"[]", b"ok", b"ok", b"ok", b"ok"]
    assert [path for _, path in app.requests] == ["/", "/notifications", "/", "/"]
    await client.send(POLL)
    assert (await response(client)).body == b"[]"
    assert len(app.requests) == 4


async def test_five_hundred_pipelined_polls_are_answered(client: RawClient, app: Recording) -> None:
    await client.send(POLL * 500 + PAGE)
    for _ in range(500):
        assert (await response(client)).body == b"[]"
    assert (await response(client)).body == b"ok"
    assert app.requests == [("GET", "/")]


async def test_held_polls_pipelined_are_answered_one_after_the_other(it: Serving, client: RawClient) -> None:
    await client.send(HELD + HELD + POLL)
    for number in range(2):
        await it.feed.streaming(1)
        await until(lambda: all(each.started for each in it.feed.streams))
        it.feed.send(str(number))
        assert json.loads((await response(client)).body)[0]["data"] == number
    assert (await response(client)).body == b"[]"


@pytest.mark.parametrize("pieces", [False, True])
async def test_upgrade_after_a_page_on_the_same_connection(
    it: Serving, client: RawClient, app: Recording, pieces: bool
) -> None:
    await client.send(POLL)
    await response(client)
    await client.send(PAGE)
    assert (await response(client)).body == b"ok"
    await (send_in_bytes(client, TAB) if pieces else client.send(TAB + client_frame(0x89, b"early")))
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert await client.frame() == (0x81, b"[]")
    if not pieces:
        assert await client.frame() == (0x8A, b"early")
    it.feed.send("1")
    assert b'"data": 1' in (await client.frame())[1]
    assert app.requests == [("GET", "/")]


async def test_upgrade_as_soon_as_a_page_has_arrived(it: Serving, app: Recording) -> None:
    """From another thread, so that the request may arrive before Hypercorn has finished with the page."""

    def statuses() -> set[bytes]:
        found = set()
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", it.port), timeout=DEADLINE) as raw:
                raw.sendall(PAGE)
                received = b""
                while not received.endswith(b"ok"):
                    received += raw.recv(4096)
                raw.sendall(TAB)
                found.add(raw.recv(12))
        return found

    assert await asyncio.to_thread(statuses) == {b"HTTP/1.1 101"}
    await it.idle()


@pytest.mark.parametrize(
    "target",
    [b"/notificationsx", b"/notifications/", b"/notification", b"/%6eotifications", b"/notifications%20", b"*"],
)
async def test_other_path_is_passed_on(client: RawClient, app: Recording, target: bytes) -> None:
    await client.send(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await response(client)).status == (400 if target == b"*" else 200)
    assert len(app.requests) == (target != b"*")


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"OPTIONS", b"get", b"GETX"])
async def test_other_method_is_passed_on(client: RawClient, app: Recording, method: bytes) -> None:
    await client.send(method + b" /notifications HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + POLL)
    assert (await response(client)).body == b"ok"
    assert app.bodies == [b"hello"]


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 5\r\n", b"content-LENGTH:5\r\n", b"Transfer-Encoding: chunked\r\n"],
)
async def test_request_with_a_body_is_passed_on(client: RawClient, app: Recording, head: bytes) -> None:
    body = {b"5": b"hello", b"d": b"5\r\nhello\r\n0\r\n\r\n"}[head[-3:-2]]
    await client.send(POLL[:-2] + head + b"\r\n" + body)
    assert (await response(client)).body == b"ok"
    assert app.bodies == [body if head[-3:-2] != b"d" else b"hello"]
    await client.send(POLL)
    assert (await response(client)).body == b"[]"
    assert len(app.requests) == 1


async def test_empty_body_is_no_body(client: RawClient, app: Recording) -> None:
    await client.send((POLL[:-2] + b"Content-Length: 0\r\n\r\n") * 2)
    assert [(await response(client)).body, (await response(client)).body] == [b"[]", b"[]"]
    assert app.requests == []


async def test_body_that_looks_like_a_request_is_none(client: RawClient, app: Recording) -> None:
    smuggled = b"GET /notifications?smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    await client.send(PAGE[:-2] + b"Content-Length: %d\r\n\r\n" % len(smuggled))
    await until(lambda: len(app.requests) == 1)
    await client.send(smuggled)
    assert (await response(client)).body == b"ok"
    assert app.bodies == [smuggled]
    await client.send(POLL)
    assert (await response(client)).body == b"[]"


async def test_rest_of_a_head_that_looks_like_a_request_is_none(it: Serving, client: RawClient, app: Recording) -> None:
    await client.send(PAGE)
    await response(client)
    (connection,) = it.edge.connections
    pages: Any = connection._pages
    begun = b"GET /other HTTP/1.1\r\nHost: x\r\nX: "
    await client.send(begun)
    await until(lambda: pages.server.read == len(PAGE + begun))
    await client.send(b"GET /notifications HTTP/1.1\r\n\r\n")
    assert (await response(client)).body == b"ok"
    assert [path for _, path in app.requests] == ["/", "/other"]
    await client.send(POLL)
    assert (await response(client)).body == b"[]"


async def test_expectation_is_passed_on(client: RawClient, app: Recording) -> None:
    await client.send(POLL[:-2] + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (await response(client, body=False)).status == 100
    await client.send(b"hi")
    assert (await response(client)).body == b"ok"
    assert app.bodies == [b"hi"]


async def test_http_1_0_is_passed_on_and_closed(client: RawClient, app: Recording) -> None:
    await client.send(POLL.replace(b"HTTP/1.1", b"HTTP/1.0"))
    answer = await response(client)
    assert (answer.body, answer.headers["connection"]) == (b"ok", "close")
    assert await rest(client) == b""
    assert app.requests == [("GET", "/notifications")]


def poll_of(length: int) -> bytes:
    head = POLL[:-2] + b"X: "
    return head + b"x" * (length - len(head) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("piece", [request.LONGEST_HEAD + 1, 1000])
async def test_longest_head_is_served_and_a_longer_one_is_refused(
    client: RawClient, app: Recording, piece: int
) -> None:
    async def send(data: bytes) -> None:
        for start in range(0, len(data), piece):
            await client.send(data[start : start + piece])
            await asyncio.sleep(0)

    await send(poll_of(request.LONGEST_HEAD))
    assert (await response(client)).body == b"[]"
    await send(poll_of(request.LONGEST_HEAD + 1))
    assert (await response(client)).status == 431
    assert await rest(client) == b""
    assert app.requests == []


@pytest.mark.parametrize(
    "head",
    [
        POLL.replace(b"\r\n", b"\n"),
        POLL.replace(b"Host: x\r\n", b"Host: x\n"),
        POLL.replace(b"Host: x", b"Host : x"),
        POLL.replace(b"Host: x", b"Host: x\0"),
        POLL.replace(b"Host: x", b"Host: x\r"),
        POLL.replace(b"Host: x", b": x"),
        POLL.replace(b"Host: x", b"nonsense"),
        POLL.replace(b" HTTP/1.1", b"  HTTP/1.1"),
        POLL.replace(b" HTTP/1.1", b""),
        POLL.replace(b"HTTP/1.1", b"HTTP/2.0"),
        POLL.replace(b"since=1", b"since=\xff"),
        POLL[:-2] + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=repr,
)
async def test_malformed_head_is_refused_and_closed(client: RawClient, app: Recording, head: bytes) -> None:
    await client.send(POLL + head + POLL)
    assert (await response(client)).body == b"[]"
    answer = await response(client)
    assert answer.status in (400, 505)
    assert answer.headers["connection"] == "close"
    assert await rest(client) == b""
    assert app.requests == []


@pytest.mark.parametrize(
    ("begun", "status"),
    [
        (POLL.replace(b"\r\n", b"\n"), 400),
        (POLL[:-2] + b"X: y\n", 400),
        (POLL[:-2] + b"X: " + b"x" * request.LONGEST_HEAD, 431),
    ],
    ids=["bare LF", "bare LF in a header", "too long"],
)
async def test_head_that_can_only_be_refused_is_refused_at_once(app: Recording, begun: bytes, status: int) -> None:
    async with serving(app, Timeouts(request_head=2 * DEADLINE)) as it, raw_client(it.port) as client:
        await client.send(begun)
        assert (await response(client)).status == status
        assert await rest(client) == b""


async def test_non_ascii_header_is_served(client: RawClient) -> None:
    await client.send(POLL[:-2] + "X-Name: Zoë €\r\nCookie: a=ü\r\n\r\n".encode())
    assert (await response(client)).body == b"[]"


async def test_head_has_no_body(client: RawClient) -> None:
    await client.send(POLL.replace(b"GET", b"HEAD") + POLL)
    answer = await response(client, body=False)
    assert (answer.status, answer.headers["content-length"]) == (200, "2")
    assert (await response(client)).body == b"[]"


async def test_head_with_an_upgrade_is_a_poll(client: RawClient) -> None:
    await client.send(TAB.replace(b"GET", b"HEAD"))
    assert (await response(client, body=False)).status == 200


@pytest.mark.parametrize(
    "wrong",
    [
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZQ=="),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"*"),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""),
    ],
    ids=repr,
)
async def test_invalid_handshake_is_refused_and_closed(
    it: Serving, client: RawClient, wrong: tuple[bytes, bytes]
) -> None:
    await client.send(TAB.replace(*wrong))
    answer = await response(client)
    assert (answer.status, answer.headers["sec-websocket-version"]) == (400, "13")
    assert answer.headers["connection"] == "close"
    assert await rest(client) == b""
    assert it.feed.streams == set()


async def test_connection_close_is_answered_and_closed(client: RawClient) -> None:
    await client.send(POLL[:-2] + b"Connection: close\r\n\r\n" + POLL)
    answer = await response(client)
    assert (answer.body, answer.headers["connection"]) == (b"[]", "close")
    assert await rest(client) == b""


async def test_repeated_poll_is_parsed_and_admitted_once(
    it: Serving, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    admitted: list[bytes] = []
    real = it.edge.admission.admit

    def admit(scope: Any, *, socket: bool = False) -> Any:
        admitted.append(scope["query_string"])
        return real(scope, socket=socket)

    def query(query_string: bytes, *more: Any) -> Any:
        queries.append(query_string)
        return real_query(query_string, *more)

    queries: list[bytes] = []
    real_query = it.edge.admission.query
    monkeypatch.setattr(it.edge.admission, "admit", admit)
    monkeypatch.setattr(it.edge.admission, "query", query)
    other = POLL.replace(b"since=1", b"since=2")
    await client.send(POLL + POLL + other + other + PAGE)
    for _ in range(5):
        await response(client)
    await client.send(other)
    await response(client)
    assert admitted == [b"since=1", b"since=2"]  # the second after the page
    assert queries == [b"since=2"]


# How connections end


async def test_idle_connection_is_closed_after_the_keep_alive_time(app: Recording) -> None:
    async with serving(app, Timeouts(request_head=2 * DEADLINE)) as it, raw_client(it.port) as client:
        it.edge.keep_alive = 0.05
        await client.send(POLL)
        assert (await response(client)).headers.get("connection") is None
        assert await rest(client) == b""


async def test_held_poll_outlasts_the_keep_alive_time(it: Serving, client: RawClient) -> None:
    it.edge.keep_alive = 0.05
    await client.send(POLL)
    await response(client)
    await client.send(HELD.replace(b"30", b"0.3"))
    assert (await response(client)).body == b"[]"


async def test_client_that_half_closes_gets_its_answer(client: RawClient) -> None:
    await client.send(POLL)
    client.writer.write_eof()
    answer = await response(client)
    assert answer.body == b"[]"
    assert await rest(client) == b""


async def test_client_that_half_closes_after_a_poll_is_closed(it: Serving, client: RawClient) -> None:
    await client.send(POLL)
    await response(client)
    client.writer.write_eof()
    assert await rest(client) == b""
    await it.idle()


async def test_client_that_half_closes_during_a_held_poll_gets_news(it: Serving, client: RawClient) -> None:
    await client.send(HELD)
    await it.feed.streaming(1)
    client.writer.write_eof()
    (connection,) = it.edge.connections
    await until(lambda: connection.ended)
    it.feed.send("1")
    answer = await response(client)
    assert (json.loads(answer.body)[0]["data"], answer.headers["connection"]) == (1, "close")
    assert await rest(client) == b""


async def test_half_closed_held_poll_is_cut_in_time(app: Recording) -> None:
    async with serving(app, Timeouts(half_closed=0.1)) as it, raw_client(it.port) as client:
        await client.send(HELD)
        await it.feed.streaming(1)
        client.writer.write_eof()
        await it.feed.streaming(0)
        with contextlib.suppress(ConnectionError):
            assert await rest(client) == b""
        await it.idle()
    assert tabs() == (0, 0)


async def test_client_that_half_closes_during_its_handshake_is_closed(it: Serving, client: RawClient) -> None:
    it.feed.held = []
    await client.send(TAB)
    await until(lambda: it.feed.held != [])
    client.writer.write_eof()
    (connection,) = it.edge.connections
    await until(lambda: connection.ended)
    assert it.feed.held is not None
    it.feed.answer(it.feed.held[0])
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    await rest(client)
    await it.idle()


@pytest.mark.parametrize("sent", [TAB, HELD])
async def test_client_that_disconnects_before_its_first_read_is_forgotten(app: Recording, sent: bytes) -> None:
    """The read may still end, and a drain may still close what it has found before."""
    async with serving(app, Timeouts(half_closed=0.05)) as it:
        it.feed.held = []
        async with raw_client(it.port) as client:
            await client.send(sent)
            await until(lambda: it.feed.held != [])
        await it.idle()
        (stream,) = it.feed.held
        it.feed.answer(stream)
        stream.fail(RuntimeError("a bug"))
        stream.close(1.0)
    assert tabs() == (0, 0)


RESET = struct.pack("ii", 1, 0)


@pytest.mark.parametrize("sent", [TAB, HELD[:-2] + b"Connection: close\r\n\r\n"])
async def test_stream_of_a_client_that_has_just_reset_can_be_closed(it: Serving, sent: bytes) -> None:
    """Before the reset is read; an error would end a drain."""
    with socket.socket() as raw:
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", it.port))
        await loop.sock_sendall(raw, sent)
        await until(lambda: any(each.started for each in it.feed.streams))
        (stream,) = it.feed.streams
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    stream.close(1.0)
    await it.idle()


async def test_refused_read_refuses_a_handshake(
    it: Serving, client: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    it.feed.held = []
    await client.send(TAB)
    await until(lambda: it.feed.held != [])
    (stream,) = it.feed.held
    stream.begin()
    stream.answer(None)
    answer = await response(client)
    assert (answer.status, answer.headers["connection"]) == (401, "close")
    assert json.loads(answer.body)["code"] == "signed_out"
    assert await rest(client) == b""
    await it.idle()


async def test_handshake_answered_from_memory_keeps_its_socket(it: Serving, app: Recording) -> None:
    """The frames behind it are not taken for a next request."""
    it.feed.knows = True
    async with raw_client(it.port) as client:
        await client.send(TAB + client_frame(0x81, b"1") + client_frame(0x89, b"x"))
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert [await client.frame(), await client.frame()] == [(0x81, b"[]"), (0x8A, b"x")]
        it.feed.send("1")
        assert b'"data": 1' in (await client.frame())[1]
    await it.idle()
    assert app.requests == []


async def test_pipelined_polls_leave_others_their_turn(it: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, served = 0, Counter[int]()
    take = push.Connection._take_request

    def counted(self: push.Connection) -> bool:
        served[turn] += 1
        return take(self)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(push.Connection, "_take_request", counted)
    counting = asyncio.create_task(count_turns())
    async with raw_client(it.port) as client:
        await client.send(POLL * 300)
        for _ in range(300):
            assert (await response(client)).body == b"[]"
    counting.cancel()
    assert served.total() == 300
    assert max(served.values()) <= 2 * push.AT_ONCE  # a turn of the counter may see two of the loop


async def test_handshakes_that_arrive_together_leave_others_their_turn(
    it: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, served = 0, Counter[int]()
    serve = push.Connection.serve

    def counted(self: push.Connection, *request: Any) -> None:
        served[turn] += 1
        serve(self, *request)

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(count_turns)

    monkeypatch.setattr(push.Connection, "serve", counted)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(it.port)) for _ in range(100)]
        await until(lambda: len(it.edge.connections) == 100)
        count_turns()
        arrived(*clients, sent=TAB)
        for client in clients:
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert served.total() == 100
    assert max(served.values()) == turns.AT_ONCE


def arrived(*clients: RawClient, sent: bytes) -> None:
    """Send from all clients without a turn of the event loop, which then finds all of it."""
    for client in clients:
        client.writer.write(sent)


async def test_form_does_not_wait_behind_handshakes(it: Serving, app: Recording) -> None:
    async with contextlib.AsyncExitStack() as stack:
        *clients, last = [await stack.enter_async_context(raw_client(it.port)) for _ in range(100)]
        await until(lambda: len(it.edge.connections) == 100)
        arrived(*clients, sent=TAB)
        await last.send(b"POST /send HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await response(last)
        assert len(it.feed.streams) < 99


async def test_client_that_leaves_before_its_turn_is_forgotten(it: Serving) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(it.port)) for _ in range(50)]
        await until(lambda: len(it.edge.connections) == 50)
        arrived(*clients, sent=TAB)
        for client in clients:
            client.writer.transport.abort()
    await it.idle()


async def test_half_closed_clients_get_their_answers_in_their_turn(it: Serving) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(it.port)) for _ in range(50)]
        await until(lambda: len(it.edge.connections) == 50)
        arrived(*clients, sent=POLL)
        for client in clients:
            client.writer.write_eof()
        for client in clients:
            assert (await response(client)).body == b"[]"
    await it.idle()


async def test_more_bytes_do_not_give_a_second_turn(it: Serving) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(it.port)) for _ in range(50)]
        await until(lambda: len(it.edge.connections) == 50)
        arrived(*clients, sent=POLL)
        await until(lambda: it.edge.turns.waiting > 0)
        arrived(*clients, sent=POLL)
        for client in clients:
            assert [(await response(client)).body for _ in range(2)] == [b"[]", b"[]"]
    assert it.edge.turns.waiting == 0


async def test_close_serves_those_that_wait_for_their_turn(it: Serving) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(it.port)) for _ in range(50)]
        await until(lambda: len(it.edge.connections) == 50)
        arrived(*clients, sent=POLL)
        await until(lambda: it.edge.turns.waiting > 0)
        waiting = [each for each in it.edge.connections if each._in_line]
        closing = asyncio.create_task(it.edge.close())
        answers = [await rest(client) for client in clients]
        await closing
    assert len([each for each in answers if each.endswith(b"[]")]) >= len(waiting) > 0


# Memory


async def test_answered_held_poll_is_freed_before_its_time(it: Serving) -> None:
    async with raw_client(it.port) as client:
        await client.send(HELD)
        await until(lambda: [each.started for each in it.feed.streams] == [True])
        (held,) = [weakref.ref(each) for each in it.feed.streams]
        it.feed.send("1")
        assert b'"data": 1' in (await response(client)).body
    await it.idle()
    gc.collect()
    assert held() is None


async def test_client_that_reads_no_answers_is_not_read_from(app: Recording) -> None:
    """A client that pipelines polls and does not read must not fill the memory."""
    async with serving(app) as it, raw_client(it.port, receive_buffer=4096) as client:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: len(it.edge.connections) == 1)
        (connection,) = it.edge.connections
        sending = asyncio.create_task(client.send(POLL * 100_000))
        await until(lambda: connection._paused)
        longest = 0
        for _ in range(3000):
            longest = max(longest, len(connection._buffer))
            await asyncio.sleep(0)
        assert longest < 2 * 1024 * 1024
        assert not connection.transport.is_reading()
        sending.cancel()


async def test_bytes_behind_a_held_poll_are_bounded(it: Serving, client: RawClient) -> None:
    await client.send(HELD)
    await it.feed.streaming(1)
    (connection,) = it.edge.connections
    sending = asyncio.create_task(client.send(POLL * 100_000))
    await until(lambda: not connection.transport.is_reading())
    assert push.PIPELINED < len(connection._buffer) < 2 * 1024 * 1024
    it.feed.send("1")
    assert json.loads((await response(client)).body)[0]["data"] == 1
    for _ in range(2000):
        assert (await response(client)).body == b"[]"
    sending.cancel()


async def test_slow_client_gets_the_whole_last_answer(app: Recording) -> None:
    """An answer that is longer than the kernel buffers, to a client that reads it later than the linger time."""
    long = Notification("n", json.dumps("x" * 20_000_000), 1)
    async with serving(app, Timeouts(linger=0.1)) as it, raw_client(it.port) as client:
        it.feed.known = lambda *_: [long]  # type: ignore[method-assign]
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(POLL[:-2] + b"Connection: close\r\n\r\n")
        await until(lambda: any(each._closing for each in it.edge.connections))
        loop = asyncio.get_running_loop()
        passed = loop.create_future()
        loop.call_later(0.3, passed.set_result, None)
        await passed
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        answer = await response(client)
        assert len(answer.body) == int(answer.headers["content-length"]) > 20_000_000
        assert await rest(client) == b""


# Streams


async def test_two_hundred_held_polls_end_with_one_signal(it: Serving) -> None:
    answered = metrics.POLLS["long_poll"].value(metrics._own)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(it.port)) for _ in range(200)]
        for client in clients:
            await client.send(HELD)
        await it.feed.streaming(200)
        await until(lambda: all(each.started for each in it.feed.streams))
        assert tabs()[1] == 200
        it.feed.send("7")
        bodies = {(await response(client)).body for client in clients}
        assert len(bodies) == 1
        assert json.loads(bodies.pop())[0]["data"] == 7
        await client.send(POLL)
        await response(client)
    assert tabs() == (0, 0)
    assert metrics.POLLS["long_poll"].value(metrics._own) - answered == 200


async def test_polls_are_counted(client: RawClient) -> None:
    polls, deliveries = (each["poll"].value(metrics._own) for each in (metrics.POLLS, metrics.DELIVERIES))
    await client.send(POLL * 3)
    for _ in range(3):
        await response(client)
    assert metrics.POLLS["poll"].value(metrics._own) - polls == 3
    assert metrics.DELIVERIES["poll"].value(metrics._own) == deliveries


async def test_drain_answers_held_polls_and_ignores_those_that_ended(it: Serving) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_client(it.port)) for _ in range(5)]
        for client in clients:
            await client.send(HELD)
        await it.feed.streaming(5)
        await until(lambda: all(each.started for each in it.feed.streams))
        forced = asyncio.Event()
        draining = asyncio.create_task(drain(it.feed.hub, DEADLINE, forced))
        await it.feed.streaming(4)  # the first is closed at once
        it.feed.send("1")
        await it.feed.streaming(0)
        forced.set()
        async with asyncio.timeout(DEADLINE):
            await draining
        bodies = [json.loads((await response(client)).body) for client in clients]
        assert sorted(map(len, bodies)) == [0, 1, 1, 1, 1]
        it.edge.closing = True
        await clients[0].send(POLL)
        assert (await response(clients[0])).headers["connection"] == "close"


async def test_draining_edge_refuses_new_streams(it: Serving, client: RawClient) -> None:
    it.feed.hub.stop_accepting(lambda: 3.0)
    for sent in (HELD, TAB):
        await client.send(sent)
        answer = await response(client)
        assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    assert answer.headers["connection"] == "close"


async def test_drained_tab_is_told_when_to_return(it: Serving, client: RawClient) -> None:
    closes = metrics.CLOSES[1012].value(metrics._own)
    await client.send(TAB)
    await client.head()
    assert await client.frame() == (0x81, b"[]")
    (stream,) = it.feed.streams
    stream.close(3.5)
    stream.close(1.0)
    assert await client.frame() == (0x88, (1012).to_bytes(2, "big") + b"3500")
    assert await rest(client) == b""
    assert metrics.CLOSES[1012].value(metrics._own) - closes == 1


async def test_slow_tab_delays_no_other_and_gets_the_newest_state(app: Recording) -> None:
    async with (
        serving(app) as it,
        raw_client(it.port, receive_buffer=4096) as slow,
        raw_client(it.port) as well,
    ):
        for client in (slow, well):
            await client.send(TAB)
            await client.head()
            assert await client.frame() == (0x81, b"[]")
        await it.feed.streaming(2)
        slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
        count = 200
        for number in range(count):
            it.feed.send(json.dumps(f"{number} {'x' * 3000}"))
            _, payload = await well.frame()
            assert number_in(payload) == number
        slow.reader._transport.resume_reading()  # type: ignore[attr-defined]
        received = [number_in((await slow.frame())[1])]
        async with asyncio.timeout(DEADLINE):
            while received[-1] != count - 1:
                received.append(number_in((await slow.frame())[1]))
        assert received == sorted(set(received))
        assert len(received) < count / 2, "the states in between were replaced"


def number_in(payload: bytes) -> int:
    found = re.search(rb'"data": "(\d+) ', payload)
    assert found
    return int(found[1])


@pytest.mark.parametrize("lasts", [0.1, 0.5])
async def test_tab_ends_when_its_session_expires(app: Recording, lasts: float) -> None:
    """Before the first heartbeat, or between two."""
    async with serving(app, heartbeat=0.4) as it, raw_client(it.port) as client:
        expiring = Expiring(it, lasts)
        await client.send(TAB)
        await client.head()
        frames = []
        async with asyncio.timeout(DEADLINE):
            while (frame := await client.frame())[0] == 0x81:
                frames.append(frame)
        assert frame == (0x88, (4401).to_bytes(2, "big") + b"signed_out")
        assert len(frames) == 1 + int(lasts / 0.4), "no later than the session"
        assert expiring.asked == 2
    assert tabs() == (0, 0)


async def test_held_poll_ends_when_its_session_expires(it: Serving, client: RawClient) -> None:
    expiring = Expiring(it, 0.1)
    await client.send(HELD)
    answer = await response(client)
    assert (answer.status, json.loads(answer.body)["code"]) == (401, "signed_out")
    assert expiring.asked == 2

"""Slow, stalled, hasty and vanished clients: each is closed in time, and its resources are released (I9)."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from microblog_rt.server import websocket
from microblog_rt.timeouts import Timeouts
from tests.asgi_server import HANDSHAKE, Application, RawClient, client_frame, connections, live, raw_client, served
from tests.server_process import DEADLINE
from tests.timing import awake, within

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Clock:
    """The WebSocket clock, advanced by the test: a client on a slow machine does not count as silent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(websocket, "monotonic", lambda: self.now)


async def connected(client: RawClient) -> None:
    await client.send(HANDSHAKE + b"\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")


async def seconds_until_closed(client: RawClient, drip: bytes = b"") -> float:
    """Seconds until the server closes this connection, while data is sent slowly."""
    start = time.monotonic()
    ended = asyncio.create_task(client.reader.read())
    while not ended.done():
        await asyncio.wait({ended}, timeout=0.1)
        if drip and not ended.done():
            client.writer.write(drip)
    assert ended.exception() is None or isinstance(ended.exception(), ConnectionError)
    return time.monotonic() - start


SOON = 2.0  # seconds; shorter than every limit

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"

SLOW = [
    (b"", b"", 6.0),
    (b"GET / HTTP/1.1\r\nHost: ", b"x", 6.0),
    (GET + b"\r\n" + GET, b"x", 6.0),
    (POST, b"x", 12.0),
]


async def test_unfinished_request_is_cut() -> None:
    """Heads after 6 seconds, bodies after 12, however steadily the data arrives."""
    app = Application()

    async def lasted(begun: bytes, drip: bytes) -> tuple[float, float]:
        async with raw_client(port) as client, awake() as so_far:
            start = time.monotonic()
            await client.send(begun)
            await seconds_until_closed(client, drip)
            return time.monotonic() - start, so_far()

    async with served(app) as port:
        took = await asyncio.gather(*(lasted(begun, drip) for begun, drip, _ in SLOW))
        await app.idle()
    for (begun, _, expected), (seconds, awake_for) in zip(SLOW, took, strict=True):
        assert expected - 0.1 < seconds, begun
        assert awake_for < expected + 2, begun


async def test_keep_alive_connection_closed_by_client_is_released() -> None:
    app = Application()
    async with served(app) as port:
        async with raw_client(port) as client:
            await client.send(GET + b"\r\n")
            await client.head()
            assert await client.reader.readexactly(2) == b"ok"
            client.writer.write_eof()
            async with within(SOON):
                await seconds_until_closed(client)
        async with asyncio.timeout(DEADLINE):
            while connections():
                await asyncio.sleep(0)


async def test_stalled_reader_is_closed_and_others_are_not() -> None:
    app = Application("x" * 3000, 0.02)  # a client that reads has read by then
    async with (
        served(app, Timeouts(send=0.3)) as port,
        raw_client(port, receive_buffer=4096) as stalled,
        raw_client(port) as well,
    ):
        await connected(well)
        await connected(stalled)
        stalled.reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(DEADLINE):
            while app.inside > 1:
                await well.frame()
        assert (await well.frame())[1] == b"x" * 3000


async def test_client_that_answers_no_ping_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    app = Application(pause=0.005)
    async with (
        served(app, Timeouts(websocket_silence=1, websocket_pong=1)) as port,
        raw_client(port) as silent,
        raw_client(port) as answers,
    ):
        for client in (silent, answers):
            await connected(client)
        gone = asyncio.create_task(silent.reader.read())
        pings = 0
        async with asyncio.timeout(DEADLINE):
            while not gone.done() or pings < 3:
                first, payload = await answers.frame()
                clock.now += 0.05
                if first == 0x89:
                    pings += 1
                    await answers.send(client_frame(0x8A, payload))
        assert b"\x89\x00" in gone.result() if not gone.exception() else True
        await app.serving_count(1)
        await answers.frame()


async def test_active_client_is_not_pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(websocket, "FRAMES", 1000)
    app = Application(pause=0.01)
    async with served(app, Timeouts(websocket_silence=1)) as port, raw_client(port) as client:
        await connected(client)
        while clock.now < 4:
            assert await client.frame() == (0x81, b"[]")
            clock.now += 0.05
            await client.send(client_frame(0x81, b"1"))


HASTE = [
    HANDSHAKE + b"\r\n" + client_frame(0x81, b"1"),
    HANDSHAKE + b"Content-Length: 5\r\n\r\nhello",
]


@pytest.mark.parametrize("request_", HASTE)
async def test_data_before_handshake_response_is_refused(request_: bytes) -> None:
    app = Application()
    async with served(app) as port, raw_client(port) as client:
        await client.send(request_)
        assert (await client.head()).split()[1] in (b"400", b"101")
        async with within(SOON):
            await seconds_until_closed(client)
        await app.idle()


async def test_body_in_ten_thousand_chunks_blocks_nothing() -> None:
    """Hypercorn's queue of ten events, if nothing consumes it, would hold the connection forever."""

    async def answers_at_once(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with served(answers_at_once) as port, raw_client(port) as client:
        chunks = b"1\r\nx\r\n" * 10_000
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        async with within(SOON):
            await seconds_until_closed(client)


async def test_response_arrives_while_the_client_still_sends() -> None:
    """Closing a connection with unread data resets it, which discards what was just sent."""

    async def refuses(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def response(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n")
            for _ in range(4):
                client.sendall(b"x" * 100_000)
            return client.recv(100)

    async with served(refuses, Timeouts(linger=DEADLINE)) as port:
        for _ in range(5):
            assert (await asyncio.to_thread(response, port)).startswith(b"HTTP/1.1 413 ")


def test_kernel_closes_connections_without_tcp_acks() -> None:
    from microblog_rt import server

    with server.listen("127.0.0.1:0") as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000


async def test_websocket_has_a_small_send_buffer() -> None:
    sizes = []

    class Looks(websocket.PlainStream):
        async def _accept(self, message: Any) -> None:
            await super()._accept(message)
            raw = self._transport.get_extra_info("socket")
            sizes.append(raw.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))

    async with served(Application()) as port:
        from hypercorn.protocol import h11

        vars(h11)["WSStream"] = Looks
        async with raw_client(port) as client:
            await connected(client)
        websocket.install()
    assert sizes == [2 * websocket.SEND_BUFFER]  # the kernel adds its own overhead

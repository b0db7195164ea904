"""Slow, stalled, hasty and vanished clients: each is closed in time, and its resources are released (I9)."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from microblog_rt.push import websocket, writer
from microblog_rt.push.tab import Tab
from microblog_rt.timeouts import Timeouts
from tests.asgi_server import HANDSHAKE, Application, RawClient, client_frame, live, raw_client, served, serving
from tests.server_process import DEADLINE
from tests.timing import awake, within

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


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
    (b"GET /notifications HTTP/1.1\r\nHost: ", b"x", 6.0),
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
    async with serving(Application()) as it:
        async with raw_client(it.port) as client:
            await client.send(GET + b"\r\n")
            await client.head()
            assert await client.reader.readexactly(2) == b"ok"
            client.writer.write_eof()
            async with within(SOON):
                await seconds_until_closed(client)
        await it.idle()


async def test_stalled_reader_is_closed_and_others_are_not() -> None:
    news = f'"{"x" * 3000}"'
    async with (
        serving(Application(), Timeouts(send=0.3)) as it,
        raw_client(it.port, receive_buffer=4096) as stalled,
        raw_client(it.port) as well,
    ):
        for client in (well, stalled):
            await connected(client)
        await it.feed.streaming(2)
        stalled.reader._transport.pause_reading()  # type: ignore[attr-defined]
        sending = asyncio.create_task(it.sends(news, 0.02))  # a client that reads has read by then
        async with asyncio.timeout(DEADLINE):
            while len(it.feed.streams) > 1:
                await well.frame()
        assert news.encode() in (await well.frame())[1]
        sending.cancel()


async def test_client_that_answers_no_ping_is_closed() -> None:
    patience = Timeouts(websocket_silence=0.3, websocket_pong=0.3)
    async with (
        serving(Application(), patience, heartbeat=0.05) as it,
        raw_client(it.port) as silent,
        raw_client(it.port) as answers,
    ):
        for client in (silent, answers):
            await connected(client)
        gone = asyncio.create_task(silent.reader.read())
        pings = 0
        async with asyncio.timeout(DEADLINE):
            while not gone.done() or pings < 3:
                first, payload = await answers.frame()
                if first == 0x89:
                    pings += 1
                    await answers.send(client_frame(0x8A, payload))
        assert b"\x89\x00" in gone.result() if not gone.exception() else True
        await it.feed.streaming(1)
        await answers.frame()


async def test_active_client_is_not_pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "FRAMES", 1000)
    # Any frame received sets the clock of the silence back; so does none of those sent.
    async with (
        serving(Application(), Timeouts(websocket_silence=DEADLINE), heartbeat=0.05) as it,
        raw_client(it.port) as client,
    ):
        await connected(client)
        (tab,) = it.feed.streams
        assert isinstance(tab, Tab)
        for _ in range(20):
            assert await client.frame() == (0x81, b"[]")
            tab._heard -= DEADLINE * 0.9
            await client.send(client_frame(0x81, b"1"))
            async with asyncio.timeout(DEADLINE):
                while asyncio.get_running_loop().time() - tab._heard > DEADLINE / 2:
                    await asyncio.sleep(0)


async def test_frame_in_the_packet_of_the_handshake_is_received() -> None:
    async with serving(Application()) as it, raw_client(it.port) as client:
        await client.send(HANDSHAKE + b"\r\n" + client_frame(0x81, b"1") + client_frame(0x89, b"x"))
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert [await client.frame(), await client.frame()] == [(0x81, b"[]"), (0x8A, b"x")]


async def test_handshake_with_a_body_is_no_handshake() -> None:
    async with serving(Application()) as it, raw_client(it.port) as client:
        await client.send(HANDSHAKE + b"Content-Length: 5\r\n\r\nhello")
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")
        async with within(SOON):
            await seconds_until_closed(client)
        assert it.feed.streams == set()


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
    async with serving(Application()) as it, raw_client(it.port) as client:
        await connected(client)
        (tab,) = it.feed.streams
        assert isinstance(tab, Tab)
        raw = tab.transport.get_extra_info("socket")
        # The kernel adds its own overhead.
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * writer.SEND_BUFFER

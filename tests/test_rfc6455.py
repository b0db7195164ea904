"""Every case of ``rfc6455.py``, in one piece and byte by byte.

Against a push edge in this process, so that leftovers and logs can be inspected (I7, I9).
"""

import asyncio
import gc
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar

import pytest

from microblog_rt.protocol import Notification
from microblog_rt.push import edge, frames, websocket
from microblog_rt.push.tab import Tab
from tests.asgi_server import HANDSHAKE, RawClient, live, raw_client, served, serving, warnings_logged
from tests.rfc6455 import AT_ONCE, CASES, MANY, TOO_MANY, Case, play
from tests.server_process import DEADLINE
from tests.timing import within

PATIENCE = 5.0  # seconds, for resources to be released (I9)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def live_only(_scope: Any, receive: Receive, send: Send) -> None:
    """An application without pages."""
    await live(receive, send)


class Echo(Tab):
    """A tab that echoes every message and sends nothing else; records how much data it has processed."""

    newest: ClassVar["Echo"]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        Echo.newest = self
        self.portions: list[int] = []
        self.changed = asyncio.Event()

    def take(self, found: list[Notification]) -> None:
        assert self._connection is not None
        self._begin(self._connection, b"")

    def received(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.transport.write(frames.frame(frames.TEXT, message.encode()))
        else:
            self.transport.write(frames.frame(frames.BINARY, message))

    def data_received(self, data: bytes) -> None:
        if not self._closing:
            self.portions.append(len(data))
        super().data_received(data)
        self.changed.set()


async def whole(client: RawClient, data: bytes) -> None:
    await client.send(data)


async def byte_by_byte(client: RawClient, data: bytes) -> None:
    """Send each byte after the stream has processed the one before, until it is closed."""
    for byte in data:
        Echo.newest.changed.clear()
        await client.send(bytes([byte]))
        if not Echo.newest._closing:
            async with asyncio.timeout(DEADLINE):
                await Echo.newest.changed.wait()


@pytest.fixture(scope="module", autouse=True)
def only_new_garbage() -> Iterator[None]:
    """Collecting garbage in every imported module after each case would take minutes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Echo, and fail if a task's exception was never retrieved."""
    monkeypatch.setattr(edge, "Tab", Echo)
    yield
    monkeypatch.undo()
    gc.collect()
    records = [*caplog.get_records("call"), *caplog.records]
    assert warnings_logged(records) == []


async def echoed(case: Case, say: Callable[[RawClient, bytes], Awaitable[None]]) -> None:
    # asyncio's debug tracebacks for some ten thousand writes are not needed.
    asyncio.get_running_loop().set_debug(False)
    async with serving(live_only) as it:
        baseline = asyncio.all_tasks()
        async with raw_client(it.port) as client:
            client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await client.send(HANDSHAKE + b"\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
            await play(case, client, say)
        await it.idle(PATIENCE)
        assert asyncio.all_tasks() <= baseline


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
async def test_case_in_one_piece(case: Case) -> None:
    await echoed(case, whole)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
async def test_case_byte_by_byte(case: Case) -> None:
    await echoed(case, byte_by_byte)
    assert set(Echo.newest.portions) == {1}


@pytest.mark.parametrize("case", MANY, ids=lambda case: case.what)
@pytest.mark.parametrize("say", [whole, byte_by_byte])
async def test_many_frames_pass_below_the_limit(case: Case, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "FRAMES", 10_000)
    await echoed(case, say)


@pytest.mark.parametrize("case", TOO_MANY, ids=lambda case: case.what)
@pytest.mark.parametrize("say", [whole, byte_by_byte])
async def test_twenty_first_frame_in_ten_seconds_closes(case: Case, say: Any) -> None:
    await echoed(case, say)


KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
CONNECTION = b"Connection: Upgrade\r\n"


def but(old: bytes, new: bytes) -> bytes:
    """The handshake with ``old`` replaced."""
    assert old in HANDSHAKE
    return HANDSHAKE.replace(old, new) + b"\r\n"


GOOD_HANDSHAKES = [
    but(CONNECTION, b"connection:keep-alive ,  UPGRADE\r\n"),
    but(CONNECTION, b"Connection: Upgrade, \xff\r\n"),
    but(b"Upgrade: websocket", b"upgrade: WebSocket"),
    but(VERSION, VERSION + b"Sec-WebSocket-Extensions: \xff, permessage-deflate; client_max_window_bits=abc\r\n"),
    but(VERSION, VERSION + b"Sec-WebSocket-Protocol: \xff,,;\r\nSec-WebSocket-Extensions: \r\n"),
]
BAD_HANDSHAKES = [
    but(KEY, b""),
    but(KEY, KEY + KEY),
    but(KEY, b"Sec-WebSocket-Key:\r\n"),
    but(KEY, b"Sec-WebSocket-Key: \xff\xfe\r\n"),
    but(KEY, b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n"),
    but(KEY, b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ!!\r\n"),
    but(VERSION, b""),
    but(VERSION, VERSION + b"Sec-WebSocket-Version: 8\r\n"),
    but(VERSION, b"Sec-WebSocket-Version: 12\r\n"),
    but(VERSION, b"Sec-WebSocket-Version: 13, 8\r\n"),
    but(VERSION, b"Sec-WebSocket-Version: \xff\r\n"),
    but(b"HTTP/1.1", b"HTTP/1.0"),
    but(b"HTTP/1.1", b"HTTP/1.2"),
]


async def in_small_pieces(client: RawClient, data: bytes) -> None:
    """There is no stream yet that could report progress."""
    for byte in data:
        await client.send(bytes([byte]))
        await asyncio.sleep(0)


@pytest.mark.parametrize("request_", GOOD_HANDSHAKES)
@pytest.mark.parametrize("say", [whole, in_small_pieces])
async def test_handshake_is_answered(request_: bytes, say: Any) -> None:
    """With the accept key of RFC 6455, 1.3, and without extensions or subprotocols."""
    async with served(live_only) as port, raw_client(port) as client:
        await say(client, request_)
        head = (await client.head()).lower()
        assert head.startswith(b"http/1.1 101 ")
        assert b"\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n" in head
        assert head.count(b"sec-websocket-") == 1


@pytest.mark.parametrize("request_", BAD_HANDSHAKES)
@pytest.mark.parametrize("say", [whole, in_small_pieces])
async def test_bad_handshake_is_refused_and_closed(request_: bytes, say: Any) -> None:
    async with serving(live_only) as it:
        baseline = asyncio.all_tasks()
        async with raw_client(it.port) as client:
            await say(client, request_)
            head = (await client.head()).lower()
            assert head.startswith(b"http/1.1 400 ")
            # Other versions of HTTP have no WebSockets (RFC 6455, 4.1).
            assert (b"\r\nsec-websocket-version: 13\r\n" in head) == (b" HTTP/1.1\r\n" in request_)
            async with within(AT_ONCE):
                body = await client.reader.read()
            assert body == b"" or json.loads(body)["code"] == "bad_request"
        await it.idle(PATIENCE)
        assert asyncio.all_tasks() <= baseline

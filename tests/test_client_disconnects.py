"""Clients that disconnect midway: vanished, reset, or with pending requests. Nothing is logged, nothing remains.

See also: ``test_peers.py`` for slow clients, ``test_stalled.py`` for clients that do not read.
"""

import asyncio
import errno
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.asgi_server import HANDSHAKE, live, raw_client, serving, warnings_logged
from tests.asgi_server import Application as Telling
from tests.server_process import DEADLINE, Server
from tests.timing import LoadMonitor
from tests.waiting import until

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE = 5.0  # seconds (I9)


ERRNOS = [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET, errno.EPIPE]
BEGINNINGS = [HANDSHAKE + b"\r\n", GET, GET[:20], b""]


@pytest.mark.parametrize("number", ERRNOS, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("begun", BEGINNINGS, ids=["a tab", "an idle one", "half a request", "nothing"])
async def test_connection_timed_out_by_the_kernel_is_released(
    begun: bytes, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A phone in a tunnel: nothing sent to it is acknowledged, and reading fails eventually."""
    app = Telling()
    async with serving(app) as it, raw_client(it.port) as client:
        await client.send(begun)
        if begun.endswith(b"\r\n\r\n"):
            await client.head()
        async with asyncio.timeout(PATIENCE):
            while not (peers := {*it.edge.connections, *it.feed.streams}):
                await asyncio.sleep(0)
        (peer,) = peers
        cast(Any, peer).transport._fatal_error(OSError(number, "given up"))
        await it.idle(PATIENCE)
        await app.idle()
    assert warnings_logged(caplog.records) == []


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Application:
    """Answers the first request at once, and the others too unless it ``waits`` for their client to disconnect."""

    def __init__(self, *, waits: bool) -> None:
        self.requests = 0
        self.waits = waits

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        self.requests += 1
        if self.waits and self.requests > 1:
            await disconnected(receive)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def test_disconnected_client_is_not_served_or_written_to(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio would warn about each write after the fifth."""
    app = Application(waits=True)
    async with serving(app) as it:
        async with raw_client(it.port) as client:
            await client.send(GET * 40)
            await client.head()
            raw = client.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await it.idle(PATIENCE)
    assert app.requests == 2
    assert warnings_logged(caplog.records) == []


class Holding:
    """Never responds; ``inside`` counts requests without a disconnect event."""

    def __init__(self) -> None:
        self.begun = self.inside = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        self.begun += 1
        self.inside += 1
        await disconnected(receive)
        self.inside -= 1


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("behind", [b"", GET, GET * 1000, GET[:20]], ids=["nothing", "one", "many", "half"])
async def test_disconnect_is_noticed_behind_pipelined_requests(
    behind: bytes, resets: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is read behind a held request, so the client's end would not be read either."""
    app = Holding()
    async with serving(app) as it:
        async with raw_client(it.port) as client:
            await client.send(GET + behind)
            async with asyncio.timeout(PATIENCE):
                while not app.inside:
                    await asyncio.sleep(0)
            if resets:
                raw = client.writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await it.idle(PATIENCE)
        assert (app.begun, app.inside) == (1, 0)
    assert warnings_logged(caplog.records) == []


async def test_immediate_disconnect_is_noticed() -> None:
    app = Holding()
    async with serving(app) as it:
        async with raw_client(it.port) as client:
            await client.send(GET * 3)
            client.writer.write_eof()
            assert await asyncio.wait_for(client.reader.read(), PATIENCE) == b""
        await it.idle(PATIENCE)
        assert (app.begun, app.inside) == (1, 0)


async def test_many_requests_at_once_are_answered_one_after_the_other() -> None:
    app = Application(waits=False)
    async with serving(app) as it, raw_client(it.port) as client:
        await client.send(GET * 1200)
        for _ in range(1200):
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            assert await client.reader.readexactly(2) == b"ok"
    assert app.requests == 1200


@pytest.mark.parametrize("behind", [GET * 1000, b"nonsense\r\n\r\n"], ids=["requests", "nonsense"])
@pytest.mark.parametrize("leaves", [False, True])
def test_request_queued_behind_held_poll_does_not_block_stop(
    tmp_path: Path, behind: bytes, leaves: bool, load_monitor: LoadMonitor
) -> None:
    with Server(tmp_path) as server:
        bob = server.person("bob")
        head = f"GET /notifications?wait=30&since=9e9 HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {bob.cookie()}\r\n\r\n"
        bob.close()
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as held:
            held.sendall(head.encode() + behind)
            until(lambda: server.holds() == 1)
            if leaves:
                held.close()
            start = time.time()
            assert server.stop() == 0
            assert time.time() - start < load_monitor.allows(PATIENCE, start)
        assert server.logged() == ""

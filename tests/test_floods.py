"""Floods: closed at once, without memory growth (I6) and without effect on other clients.

Against a real server process; the kernel reports its memory, peak included.
"""

import asyncio
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import httpx
import pytest

from tests.asgi_server import HANDSHAKE, RawClient, client_frame, raw_client
from tests.process_stats import Memory
from tests.server_process import DEADLINE, Person, Server
from tests.timing import LoadMonitor

MIB = 2**20
AT_ONCE = 1.0  # seconds
PROMPTLY = 0.5  # seconds, for another client's poll meanwhile
CHUNK = b"x" * 2**16


class Flood(NamedTuple):
    """What is sent after ``begun``, and one of which responses must follow."""

    what: str
    begun: bytes
    chunks: list[bytes]
    answers: tuple[bytes, ...]
    mib: float = 5.0  # more than before, at the peak


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """A user of a server that must stop cleanly with an empty log (I7)."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        bob = server.person("bob")
        yield bob
        bob.close()
        assert server.stop() == 0
    assert server.logged() == ""


async def send_all(client: RawClient, flood: Flood) -> None:
    with suppress(ConnectionError):
        for part in (flood.begun, *flood.chunks):
            await client.send(part)


async def read_to_end(client: RawClient) -> bytes:
    """Everything the server sends until the connection ends."""
    received = b""
    with suppress(ConnectionError):
        while piece := await client.reader.read(2**16):
            received += piece
    return received


async def slowest_poll(person: Person, over: asyncio.Event) -> float:
    """The duration of the slowest poll, made one after the other (at least one) during the flood."""
    slowest = 0.0
    async with httpx.AsyncClient(base_url=person.server.url, cookies=person.client.cookies) as client:
        while not over.is_set() or not slowest:
            start = time.monotonic()
            assert (await client.get("/notifications", timeout=DEADLINE)).status_code == httpx.codes.OK
            slowest = max(slowest, time.monotonic() - start)
    return slowest


async def send_flood(person: Person, client: RawClient, flood: Flood, load_monitor: LoadMonitor) -> None:
    """Send the flood: the server closes it, other clients are unaffected, and further data is cut off."""
    asyncio.get_running_loop().set_debug(False)  # the server is what is measured
    memory, over, began = Memory(person.server), asyncio.Event(), time.time()
    polling = asyncio.create_task(slowest_poll(person, over))
    pouring = asyncio.create_task(send_all(client, flood))
    times = [time.monotonic()]
    async with asyncio.timeout(DEADLINE):
        received = await read_to_end(client)
        times.append(time.monotonic())
        await pouring
        times.append(time.monotonic())
    over.set()
    assert any(answer in received for answer in flood.answers)
    slowest = await polling
    assert max(after - before for before, after in pairwise(times)) < load_monitor.allows(AT_ONCE, began)
    assert slowest < load_monitor.allows(PROMPTLY, began)
    assert memory.peak() < flood.mib


def frames(count: int, frame: bytes) -> list[bytes]:
    """``count`` repetitions, in pieces of about ten thousand."""
    return [frame * 10_000] * (count // 10_000)


def close(code: int) -> bytes:
    return b"\x88\x02" + code.to_bytes(2, "big")


NUMBER = client_frame(0x81, b"1")  # seven bytes
FRAGMENT = client_frame(0x00, b"x" * 1024)
DEFLATE = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB = DEFLATE.compress(bytes(60 * MIB)) + DEFLATE.flush()

INTO_A_SOCKET = [
    Flood("a message", b"\x81\xff" + (50 * MIB).to_bytes(8, "big") + bytes(4), [CHUNK] * 800, (close(1009),)),
    Flood("fragments", client_frame(0x01), frames(50_000, FRAGMENT), (close(1009),)),
    Flood("small frames", b"", frames(4_500_000, NUMBER), (close(1008),)),
    Flood("pings", b"", frames(4_500_000, client_frame(0x89, b"1")), (close(1008),)),
    Flood("a bomb", b"", [client_frame(0xC1, BOMB)], (close(1002),), mib=2.0),
]


@pytest.mark.parametrize("flood", INTO_A_SOCKET, ids=lambda flood: flood.what)
async def test_flood_into_a_websocket(bob: Person, flood: Flood, load_monitor: LoadMonitor) -> None:
    async with raw_client(bob.server.port) as client:
        await client.send(HANDSHAKE + OFFER + credentials(bob))
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        await client.frame()
        await send_flood(bob, client, flood, load_monitor)


def credentials(person: Person) -> bytes:
    return f"Origin: http://127.0.0.1\r\nCookie: {person.cookie()}\r\n\r\n".encode()


OFFER = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
GET, LOGIN, POST = (
    start + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for start in (b"GET /notifications", b"POST /auth/login", b"POST /notifications")
)
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
LONG = b"Content-Length: %d\r\n" % (50 * MIB)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
PIECE = b"10000\r\n" + CHUNK + b"\r\n"

INTO_A_REQUEST = [
    Flood("a body to a form", LOGIN + FORM + LONG, [CHUNK] * 799, (b" 413 ",)),
    Flood("a body in pieces to a form", LOGIN + FORM + CHUNKED, [PIECE] * 800, (b" 413 ",)),
    Flood("a body where none is taken", POST + LONG, [CHUNK] * 799, (b" 405 ",)),
    Flood("a body in pieces where none is taken", POST + CHUNKED, [PIECE] * 800, (b" 405 ",)),
    Flood("a body of a poll", GET + LONG, [CHUNK] * 799, (b" 200 ",)),
    Flood("a body in pieces of a poll", GET + CHUNKED, [PIECE] * 800, (b" 200 ",)),
]


@pytest.mark.parametrize("flood", INTO_A_REQUEST, ids=lambda flood: flood.what)
async def test_flood_into_a_request_body(bob: Person, flood: Flood, load_monitor: LoadMonitor) -> None:
    async with raw_client(bob.server.port) as client:
        await send_flood(bob, client, flood._replace(begun=flood.begun + credentials(bob)), load_monitor)


async def test_flood_into_an_endless_head(bob: Person, load_monitor: LoadMonitor) -> None:
    async with raw_client(bob.server.port) as client:
        await send_flood(bob, client, Flood("", GET + b"X: ", [CHUNK] * 480, (b" 431 ",)), load_monitor)


async def test_flood_before_the_handshake_response(bob: Person, load_monitor: LoadMonitor) -> None:
    """If the handshake response is sent just in time, these are too many frames."""
    async with raw_client(bob.server.port) as client:
        answers = b" 400 ", close(1008)
        flood = Flood("", HANDSHAKE + credentials(bob), frames(4_500_000, NUMBER), answers)
        await send_flood(bob, client, flood, load_monitor)


async def test_flood_into_a_held_poll_is_not_buffered(bob: Person) -> None:
    asyncio.get_running_loop().set_debug(False)
    held = GET.replace(b"notifications", b"notifications?wait=1&since=9e9")
    async with raw_client(bob.server.port) as client:
        memory = Memory(bob.server)
        await send_all(client, Flood("", held + CHUNKED + credentials(bob), [PIECE] * 800, ()))
        assert b" 200 " in await client.head()
        assert memory.peak() < 5

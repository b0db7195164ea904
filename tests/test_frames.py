"""Frames sent to the application, in a real server process: numbers are acknowledgements, anything else closes.

The cases of ``rfc6455.py`` hold here too.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.asgi_server import HANDSHAKE, RawClient, raw_client
from tests.rfc6455 import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    TOO_BIG,
    WITHOUT_MESSAGES,
    Case,
    fails,
    frame,
    pieces,
    play,
    reply,
    stays_open,
)
from tests.server_process import Person, Server

UNSUPPORTED = 1003


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """A user of a server that must stop cleanly with an empty log (I7)."""
    with Server(tmp_path_factory.mktemp("server"), environ={"MICROBLOG_TABS_PER_USER": ""}) as server:
        bob = server.person("bob")
        yield bob
        bob.close()
        assert server.stop() == 0
    assert server.logged() == ""


@asynccontextmanager
async def tab(person: Person) -> AsyncIterator[RawClient]:
    """A user's WebSocket, past its first frame."""
    head = f"Origin: http://127.0.0.1\r\nCookie: {person.cookie()}\r\n\r\n"
    async with raw_client(person.server.port) as client:
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await client.send(HANDSHAKE + head.encode())
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert (await client.frame())[0] == 0x81
        yield client


async def whole(client: RawClient, data: bytes) -> None:
    await client.send(data)


async def byte_by_byte(client: RawClient, data: bytes) -> None:
    for byte in data:
        await client.send(bytes([byte]))


NUMBERS = [b"0", b"-1.5", b"1e3", b" 1\n", b"1.7e9" + b" " * 120, b"1" * 300, b"1".rjust(4096)]
NO_NUMBERS = [
    b"",
    b"[]",
    b"null",
    b"NaN",
    b"1e999",
    b"01",
    b"1 2",
    b"\x001",
    b"1\x1f",
    "\u00a01".encode(),
    "１".encode(),
    b"1" * 310,
]

OURS = [
    *[stays_open(f"the number {each[:9]!r}, {len(each)} bytes", frame(TEXT, each)) for each in NUMBERS],
    *[fails(f"no number: {each[:9]!r}", UNSUPPORTED, frame(TEXT, each)) for each in NO_NUMBERS],
    *[fails(f"a number, but binary: {each!r}", UNSUPPORTED, frame(BINARY, each)) for each in (b"", b"1")],
    stays_open(
        "a number in fragments about a ping", frame(TEXT, b"1", final=False) + frame(PING, b"x"), reply(PONG, b"x")
    ),
    stays_open("a number in fragments", b"".join(pieces(b"1763841", 1))),
    fails("no number in fragments", UNSUPPORTED, b"".join(pieces(b"1763-841", 1))),
    fails("a number in empty fragments", UNSUPPORTED, frame(TEXT, final=False) + frame(CONTINUATION)),
    fails("a number too long", TOO_BIG, frame(TEXT, b"1".rjust(4097))),
    fails("two numbers, then none", UNSUPPORTED, frame(TEXT, b"1") * 2 + frame(TEXT)),
]


@pytest.mark.parametrize("case", OURS, ids=lambda case: case.what)
@pytest.mark.parametrize("say", [whole, byte_by_byte])
async def test_acknowledgement_frames(
    bob: Person, case: Case, say: Callable[[RawClient, bytes], Awaitable[None]]
) -> None:
    async with tab(bob) as client:
        await play(case, client, say)


@pytest.mark.parametrize("case", WITHOUT_MESSAGES, ids=lambda case: case.what)
async def test_rfc6455_cases_against_the_application(bob: Person, case: Case) -> None:
    for say in (whole, byte_by_byte):
        async with tab(bob) as client:
            await play(case, client, say)

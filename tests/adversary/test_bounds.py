"""Part A, line 6: what clients that have not signed in can occupy."""

import asyncio
import gc
import re
import resource
import socket
import sys
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import httpx
import pytest
from quart import Quart

from microblog_rt.app import create_app
from microblog_rt.push import connection as push_connection
from microblog_rt.push import edge
from microblog_rt.server import connection, pages
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts
from tests.asgi_server import Application, raw_client, served, serving
from tests.process_stats import Memory, descriptors
from tests.server_process import DEADLINE, Person, Server
from tests.waiting import until

HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
HALF_BODY = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4000\r\nExpect: 100-continue\r\n\r\n"
LIMIT = 40


@pytest.mark.parametrize("begun", [b"", GET, HALF_BODY], ids=["nothing", "half a head", "half a body"])
async def test_incomplete_connections_are_closed_first(begun: bytes) -> None:
    async with served(Application(), per_address=3) as port, AsyncExitStack() as stack:
        idle, incomplete, *others = [await stack.enter_async_context(raw_client(port)) for _ in range(3)]
        for client in (idle, *others):
            await client.send(GET + b"\r\n")
            await client.head()
            assert await client.reader.readexactly(2) == b"ok"
        await incomplete.send(begun)
        if begun == HALF_BODY:
            assert b" 100 " in await incomplete.head()
            await incomplete.send(b"x" * 3900)
        others.append(await stack.enter_async_context(raw_client(port)))
        async with asyncio.timeout(DEADLINE):
            assert await incomplete.reader.read() == b""
        for client in (idle, *others):
            await client.send(GET + b"\r\n")
            assert b" 200 " in await client.head()


async def test_idle_connections_are_closed_next() -> None:
    async with served(Application(), per_address=2) as port, AsyncExitStack() as stack:
        clients = []
        for _ in range(3):
            clients.append(await stack.enter_async_context(raw_client(port)))
            await clients[-1].send(GET + b"\r\n")
            await clients[-1].head()
            assert await clients[-1].reader.readexactly(2) == b"ok"
        async with asyncio.timeout(DEADLINE):
            assert await clients[0].reader.read() == b""
        await clients[1].send(GET + b"\r\n")
        assert b" 200 " in await clients[1].head()


@pytest.mark.parametrize("module", [push_connection, connection], ids=["push edge", "pages"])
@pytest.mark.parametrize("begun", [b"", GET, HALF_BODY.replace(b"Expect", b"X"), GET + b"\r\n"])
async def test_ended_connection_is_freed_without_garbage_collection(
    begun: bytes, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []

    class Seen(module.Connection):  # type: ignore[misc]
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)
            made.append(weakref.ref(self))

    for users in (edge, pages):
        if getattr(users, "Connection", None) is module.Connection:
            monkeypatch.setattr(users, "Connection", Seen)
    gc.disable()
    try:
        async with serving(Application(), Timeouts(request_head=0.1)) as it:
            async with raw_client(it.port) as client:
                await client.send(begun)
                async with asyncio.timeout(DEADLINE):
                    while not (made or (module is connection and not begun)):
                        await asyncio.sleep(0)
            await it.idle()
            async with asyncio.timeout(DEADLINE):
                while any(each() is not None for each in made):
                    await asyncio.sleep(0.01)
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environ = {"MICROBLOG_CONNECTIONS_PER_ADDRESS": str(LIMIT)}
    with Server(tmp_path_factory.mktemp("server"), environ=environ) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture
def bob(server: Server) -> Iterator[Person]:
    bob = server.person("bob")
    yield bob
    bob.close()


def test_half_sent_requests_occupy_little(server: Server, bob: Person) -> None:
    """goals.md, row 17; a tenth of it, which the limit makes no difference to."""
    before, memory = descriptors(server), Memory(server)
    with ExitStack() as stack:
        for number in range(800):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE))
            client.sendall((b"", GET, HALF_BODY + b"x" * 3900)[number % 3])
            if number % 50 == 0:
                assert bob.client.get("/").status_code == httpx.codes.OK
        until(lambda: descriptors(server) <= before + LIMIT)
    assert memory.growth() < 16
    assert server.logged() == ""


def test_accepting_pauses_at_the_descriptor_limit(server: Server, bob: Person) -> None:
    """One line in the log, no error; connected clients are served; new ones soon after descriptors are free."""
    assert server.process is not None
    pid, before = server.process.pid, resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert bob.client.get("/").status_code == httpx.codes.OK
    with ExitStack() as stack:
        stack.callback(resource.prlimit, pid, resource.RLIMIT_NOFILE, before)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(server) + 20, before[1]))
        for _ in range(LIMIT):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE))
        numbers = ""
        while "descriptors" not in server.logged() and "open files" not in server.logged():
            assert bob.client.get("/nowhere").status_code == httpx.codes.NOT_FOUND
        numbers = bob.client.get("/metrics").text
        found = re.search(r"^microblog_accept_pauses_total (\d+)", numbers, re.MULTILINE)
        assert found
        assert int(found[1]) >= 1
    start = time.monotonic()
    assert httpx.get(f"{server.url}/healthz", timeout=DEADLINE).status_code == httpx.codes.OK
    assert time.monotonic() - start < 5
    (line,) = server.logged().splitlines()
    assert "accepting no connections for a second" in line


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(settings)
    async with app.test_app():
        yield app


@pytest.mark.sqlite
async def test_error_pages_open_no_file(app: Quart) -> None:
    asyncio.get_running_loop().set_debug(False)  # it reads source files
    opened: list[str] = []
    watching = True

    def note(event: str, args: tuple[object, ...]) -> None:
        # Other threads of the tests read the load of the machine.
        if watching and event == "open" and not str(args[0]).startswith("/proc/"):
            opened.append(str(args[0]))

    sys.addaudithook(note)
    for language in ("en", "es", "zh-Hant"):
        page = await app.test_client().get("/nowhere", headers={"Accept": "text/html", "Accept-Language": language})
        assert page.status_code == 404
    watching = False
    assert opened == []


@pytest.mark.sqlite
@pytest.mark.parametrize(("length", "code"), [(4000, "csrf_missing"), (4200, "too_large")])
async def test_body_without_a_session_is_at_most_4_kib(app: Quart, length: int, code: str) -> None:
    headers = {"Origin": "http://localhost", "Accept": "application/json"}
    answer = await app.test_client().post("/auth/login", form={"username": "x" * length}, headers=headers)
    assert (await answer.get_json(force=True))["code"] == code


def test_proxy_connections_are_not_limited() -> None:
    assert Settings().connections_per_peer == 500
    assert Settings(trusted_hops=1).connections_per_peer is None

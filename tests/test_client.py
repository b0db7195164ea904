"""The Python client against real servers, in networks that fail. Its API calls against ``tests/api_double.py``."""

import asyncio
import doctest
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microblog_rt import client
from microblog_rt.client import (
    Client,
    Forbidden,
    Invalid,
    KeyReused,
    NotFound,
    Notification,
    Rejected,
    SignedOut,
    SyncClient,
    Unreachable,
    sync,
)
from microblog_rt.models import SCOPES, SEND_MESSAGES
from tests import api_double
from tests.browser.proxy import Proxy
from tests.command_line import Folder
from tests.ports import free_port
from tests.server_process import DEADLINE, Person, Server

COUNT = "unread_message_count"
RESTARTS = 20


@pytest.fixture
def alice(server: Server) -> Iterator[Person]:
    alice = server.person("alice")
    yield alice
    alice.close()


@pytest.fixture
def bob(server: Server) -> Iterator[Person]:
    bob = server.person("bob")
    yield bob
    bob.close()


@pytest.fixture
def api() -> Iterator[api_double.Api]:
    with api_double.serving() as api:
        yield api


@pytest.fixture
def token(server: Server, tmp_path: Path) -> str:
    """A token of alice with every scope."""
    return token_of(tmp_path, "alice", *SCOPES)


def token_of(folder: Path, name: str, *scopes: str) -> str:
    options = [word for scope in scopes for word in ("--scope", scope)]
    return Folder(folder).run("token", "add", name, *options).stdout.strip()


def of(person: Person, url: str | None = None, **options: Any) -> Client:
    """A client with the session of that person."""
    return Client(url or person.server.url, cookies=dict(person.client.cookies), **options)


async def next_of(notifications: Any) -> Notification:
    async with asyncio.timeout(DEADLINE):
        each = await anext(notifications)
    assert isinstance(each, Notification)
    return each


def test_client_imports_nothing_of_the_server() -> None:
    """Only this package, its errors and its wire protocol; and no library of the server."""
    code = "import sys, microblog_rt.client; print(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = result.stdout.split()
    own = {name for name in imported if name.startswith("microblog_rt.")}
    assert "microblog_rt.client" in own
    allowed = ("microblog_rt.client", "microblog_rt.errors", "microblog_rt.protocol")
    assert [name for name in own if not name.startswith(allowed)] == []
    assert {"quart", "sqlalchemy", "hypercorn", "alembic"} & set(imported) == set()


@pytest.mark.parametrize("transport", ["websocket", "longpoll", "poll"])
async def test_each_transport_delivers_from_the_cursor(
    server: Server, alice: Person, bob: Person, transport: str
) -> None:
    async with of(bob, transports=[transport]) as tab:
        cursor = 0.0
        for number in (1, 2):
            await asyncio.to_thread(alice.send, "bob", f"{number}")
            received = await next_of(tab.notifications(since=cursor))
            assert (received.name, received.data) == (COUNT, number)
            assert received.timestamp == tab.cursor > cursor
            assert tab.status.transport == transport
            cursor = tab.cursor


async def test_names_select_notifications(bob: Person, alice: Person) -> None:
    await asyncio.to_thread(alice.send, "bob", "hello")
    async with of(bob) as tab:
        assert (await next_of(tab.notifications(names=[COUNT, "other"]))).name == COUNT
        others = tab.notifications(since=0, names=["other"])
        waiting = asyncio.create_task(next_of(others))
        async with asyncio.timeout(DEADLINE):
            while not tab.status.online:
                await asyncio.sleep(0.01)
        assert not waiting.done()
        await others.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_five_lines_survive_twenty_restarts(server: Server, alice: Person, bob: Person) -> None:
    received: list[Notification] = []

    async def five_lines() -> None:
        async with of(bob) as tab:
            async for each in tab.notifications():
                received.append(each)

    following = asyncio.create_task(five_lines())
    try:
        for number in range(1, RESTARTS + 1):
            await asyncio.to_thread(alice.send, "bob", f"{number}")
            async with asyncio.timeout(DEADLINE):
                while not received or received[-1].data != number:
                    assert not following.done(), following
                    await asyncio.sleep(0.01)
            how = signal.SIGKILL if number % 2 else signal.SIGTERM
            await asyncio.to_thread(server.stop, how)
            await asyncio.to_thread(server.start)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert [each.data for each in received] == list(range(1, RESTARTS + 1)), "nothing is lost or repeated"


async def test_client_reconnects_after_a_drain(server: Server, alice: Person, bob: Person) -> None:
    await asyncio.to_thread(server.stop)
    server.environ["MICROBLOG_DRAIN"] = "0.5"
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(alice.send, "bob", "one")
    states: list[client.Status] = []
    async with of(bob, on_status=states.append) as tab:
        notifications = tab.notifications()
        assert (await next_of(notifications)).data == 1
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(alice.send, "bob", "two")
        assert (await next_of(notifications)).data == 2
    assert "websocket: closed with 1012" in [each.cause for each in states]


async def test_proxy_that_accepts_the_upgrade_and_cuts_it(server: Server, alice: Person, bob: Person) -> None:
    async with Proxy(server.port) as proxy:
        proxy.socket_life = 0.2
        async with of(bob, proxy.url, transports=["websocket", "longpoll"]) as tab:
            following = asyncio.create_task(next_of(tab.notifications(since=0)))
            async with asyncio.timeout(DEADLINE):
                while tab.status.transport != "longpoll":
                    await asyncio.sleep(0.01)
            assert proxy.cut >= 2
            await asyncio.to_thread(alice.send, "bob", "hello")
            assert (await following).data == 1


async def test_proxy_that_never_delivers(server: Server, alice: Person, bob: Person) -> None:
    async with Proxy(server.port) as proxy:
        proxy.mute = True
        await asyncio.to_thread(alice.send, "bob", "hello")
        async with of(bob, proxy.url, transports=["websocket", "longpoll"]) as tab:
            notifications = tab.notifications()
            assert (await next_of(notifications)).data == 1, "by a poll"
            assert proxy.passed["websocket"] == 1
            async with asyncio.timeout(DEADLINE):
                while tab.status.transport != "longpoll":
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(alice.send, "bob", "hello")
            assert (await next_of(notifications)).data == 2


async def test_wall_clock_set_back_does_not_stop_the_client(
    server: Server, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    async with of(bob) as tab:
        notifications = tab.notifications()
        for number, offset in enumerate((0, -86400, 86400), 1):
            monkeypatch.setattr(time, "time", lambda offset=offset: real() + offset)
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(alice.send, "bob", "hello")
            assert (await next_of(notifications)).data == number


@pytest.mark.parametrize("transport", ["websocket", "longpoll"])
async def test_ended_session_raises_signed_out(bob: Person, alice: Person, transport: str) -> None:
    await asyncio.to_thread(alice.send, "bob", "hello")
    async with of(bob, transports=[transport]) as tab:
        notifications = tab.notifications()
        assert (await next_of(notifications)).data == 1
        await asyncio.to_thread(bob.post, "/auth/logout")
        with pytest.raises(SignedOut):
            await next_of(notifications)
        with pytest.raises(SignedOut):
            await next_of(notifications)


async def test_invalid_token_raises_signed_out(server: Server) -> None:
    async with Client(server.url, "not-a-token") as tab:
        with pytest.raises(SignedOut):
            await next_of(tab.notifications())


async def test_connect_timeout_raises_unreachable() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with Client(url, "token", connect_timeout=0.2) as tab:
        with pytest.raises(Unreachable, match=r"within 0\.2 s"):
            await next_of(tab.notifications())


async def test_slow_loop_receives_the_newest_and_keeps_a_safe_cursor(bob: Person, alice: Person) -> None:
    async with of(bob) as tab:
        notifications = tab.notifications()
        await asyncio.to_thread(alice.send, "bob", "1")
        first = await next_of(notifications)
        for number in range(2, 6):
            await asyncio.to_thread(alice.send, "bob", f"{number}")
        assert tab.cursor == first.timestamp
        while (last := await next_of(notifications)).data != 5:
            assert tab.cursor == last.timestamp
        assert tab.cursor == last.timestamp


def test_url_and_token_are_checked() -> None:
    with pytest.raises(ValueError, match="http"):
        Client("localhost:8000", "token")
    with pytest.raises(ValueError, match="transports"):
        Client("http://localhost", "token", transports=["carrier"])
    with pytest.raises(ValueError, match="token") as refused:
        Client("http://localhost", "a secret\r\nX: y")
    assert "secret" not in str(refused.value)


async def test_token_is_not_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Client(server.url, "very-private", timeout=0) as tab:
        with pytest.raises(SignedOut):
            await next_of(tab.notifications())
        with pytest.raises(Rejected) as refused:
            await tab.send("bob", "hello")
    assert len(caplog.records) > 0
    assert "very-private" not in caplog.text + repr(refused.value) + repr(tab)


async def test_stream_of_events_is_followed(api: api_double.Api) -> None:
    async with Client(api.url, api_double.TOKEN, transports=["sse"]) as tab:
        assert await next_of(tab.notifications()) == Notification(**api_double.EVENT)
        assert (tab.cursor, tab.status.transport) == (1000.5, "sse")


async def test_send_is_repeated_with_the_same_key(api: api_double.Api) -> None:
    api.failures, api.lost = 1, 1
    async with Client(api.url, api_double.TOKEN) as tab:
        assert await tab.send("bob", "hello") == {"recipient": "bob"}
        await tab.send("bob", "hello", key="mine")
    assert api.received == 4
    bodies = [(path, body) for _, path, body, _ in api.requests]
    assert bodies == [("/api/v1/messages", {"recipient": "bob", "body": "hello"})] * 2, "each carried out once"
    assert api.requests[1][3] == "mine"


async def test_message_is_sent_once_for_each_key(server: Server, token: str, bob: Person) -> None:
    async with Client(server.url, token) as tab:
        sent = await tab.send("bob", "hello", key="one")
        assert (sent["author"], sent["recipient"], sent["body"]) == ("alice", "bob", "hello")
        assert await tab.send("bob", "hello", key="one") == sent
        with pytest.raises(KeyReused):
            await tab.send("bob", "another text", key="one")
        with pytest.raises(NotFound, match="john"):
            await tab.send("john", "hello")
        with pytest.raises(Invalid):
            await tab.send("bob", "")
    assert (await asyncio.to_thread(bob.client.get, "/notifications")).json()[0]["data"] == 1


async def test_send_and_publish_wait_for_a_restart(server: Server, token: str, bob: Person) -> None:
    async with Client(server.url, token) as tab:
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        sending = asyncio.create_task(tab.send("bob", "hello"))
        publishing = asyncio.create_task(tab.publish("bob", "build", {"passed": True}))
        await asyncio.to_thread(server.start)
        await asyncio.gather(sending, publishing)
    found = (await asyncio.to_thread(bob.client.get, "/notifications")).json()
    assert {each["name"]: each["data"] for each in found} == {COUNT: 1, "build": {"passed": True}}


async def test_publish_many_returns_results_in_order(server: Server, token: str, bob: Person) -> None:
    async with Client(server.url, token) as tab:
        results = await tab.publish_many([("john" if n == 500 else "bob", f"n{n % 10}", n) for n in range(502)])
        assert [n for n, each in enumerate(results) if each is not None] == [500]
        assert isinstance(results[500], NotFound)
        with pytest.raises(Invalid, match="unread_"):
            await tab.publish("bob", COUNT, 7)
    found = (await asyncio.to_thread(bob.client.get, "/notifications")).json()
    assert max(each["data"] for each in found) == 501


async def test_batch_is_divided_by_items_and_by_bytes(server: Server, token: str) -> None:
    """Over the limits of the server it would be refused as a whole."""
    async with Client(server.url, token) as tab:
        assert await tab.publish_many([("bob", "n", "x" * 4000)] * 501) == [None] * 501
        assert await tab.publish_many([]) == []


async def test_missing_scope_raises_forbidden(server: Server, tmp_path: Path) -> None:
    token = await asyncio.to_thread(token_of, tmp_path, "alice", SEND_MESSAGES)
    async with Client(server.url, token) as tab:
        with pytest.raises(Forbidden):
            await tab.publish("bob", "build", 1)
        with pytest.raises(Forbidden):
            await next_of(tab.notifications())


async def test_marking_as_read_shows_the_new_count_once(server: Server, token: str, bob: Person) -> None:
    await asyncio.to_thread(bob.send, "alice", "hello")
    async with Client(server.url, token) as tab:
        notifications = tab.notifications()
        assert (await next_of(notifications)).data == 1
        await tab.mark_read(tab.cursor)
        assert (await next_of(notifications)).data == 0
        await asyncio.to_thread(bob.send, "alice", "again")
        assert (await next_of(notifications)).data == 1


async def test_read_count_is_merged_without_moving_the_cursor(api: api_double.Api) -> None:
    async with Client(api.url, api_double.TOKEN, transports=["sse"]) as tab:
        notifications = tab.notifications()
        await next_of(notifications)
        await tab.mark_read()
        assert (await next_of(notifications)).data == 0
        assert tab.cursor == 1000.5
        await tab.mark_read(1000.5)
    assert [body for _, _, body, _ in api.requests] == [{"all": True}, {"up_to": 1000.5}]


async def test_unanswered_send_raises_unreachable() -> None:
    async with Client(f"http://127.0.0.1:{free_port()}", "token", timeout=0) as tab:
        with pytest.raises(Unreachable):
            await tab.send("bob", "hello")


def test_synchronous_client_subscribes_and_sends(server: Server, alice: Person, bob: Person) -> None:
    alice.send("bob", "one")
    with SyncClient(server.url, cookies=dict(bob.client.cookies)) as tab:
        received = []
        for each in tab.notifications():
            received.append(each.data)
            if each.data == 2:
                break
            alice.send("bob", "two")
        assert received == [1, 2]
        assert tab.cursor == each.timestamp


def test_example_of_the_synchronous_client(server: Server, token: str, bob: Person) -> None:
    result = doctest.testmod(sync, extraglobs={"url": server.url, "token": token})
    assert (result.failed, result.attempted) == (0, 1)
    assert {each["name"] for each in bob.client.get("/notifications").json()} == {COUNT, "build"}

"""The Python client against real servers, in networks that fail, with access tokens."""

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
    timers,
)
from microblog_rt.client.events import BEST_FIRST
from microblog_rt.models import SEND_MESSAGES
from tests import site_tokens
from tests.browser.proxy import Proxy
from tests.ports import free_port
from tests.server_process import DEADLINE, Server
from tests.token_users import BUS, TokenUser, token_user

COUNT = "unread_message_count"
RESTARTS = 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that do not stop it."""
    with Server(tmp_path_factory.mktemp("server"), environ=BUS) as server:
        yield server
    assert server.logged() == ""


@pytest.fixture
def alice(shared: Server) -> TokenUser:
    return token_user(shared)


@pytest.fixture
def bob(shared: Server) -> TokenUser:
    return token_user(shared)


@pytest.fixture
def pair(server: Server) -> tuple[TokenUser, TokenUser]:
    """Two users of a server that a test stops."""
    return token_user(server), token_user(server)


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


@pytest.mark.parametrize("transport", BEST_FIRST)
async def test_each_transport_delivers_from_the_cursor(alice: TokenUser, bob: TokenUser, transport: str) -> None:
    async with bob.client(transports=[transport]) as tab:
        cursor = 0.0
        for number in (1, 2):
            await asyncio.to_thread(alice.send, bob, f"{number}")
            received = await next_of(tab.notifications(since=cursor))
            assert (received.name, received.data) == (COUNT, number)
            assert received.timestamp == tab.cursor > cursor
            assert tab.status.transport == transport
            cursor = tab.cursor


async def test_names_select_notifications(alice: TokenUser, bob: TokenUser) -> None:
    await asyncio.to_thread(alice.send, bob, "hello")
    async with bob.client() as tab:
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


async def test_five_lines_survive_twenty_restarts(
    server: Server, pair: tuple[TokenUser, TokenUser], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that restarts every second makes the backoff grow to its maximum, which is waited for 20 times.
    monkeypatch.setattr(timers, "LAST_BACKOFF", timers.FIRST_BACKOFF)
    alice, bob = pair
    received: list[Notification] = []

    async def five_lines() -> None:
        async with bob.client() as tab:
            async for each in tab.notifications():
                received.append(each)

    following = asyncio.create_task(five_lines())
    try:
        for number in range(1, RESTARTS + 1):
            await asyncio.to_thread(alice.send, bob, f"{number}")
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


async def test_client_reconnects_after_a_drain(server: Server, pair: tuple[TokenUser, TokenUser]) -> None:
    alice, bob = pair
    await asyncio.to_thread(server.stop)
    server.environ["MICROBLOG_DRAIN"] = "0.5"
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(alice.send, bob, "one")
    states: list[client.Status] = []
    async with bob.client(on_status=states.append) as tab:
        notifications = tab.notifications()
        assert (await next_of(notifications)).data == 1
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(alice.send, bob, "two")
        assert (await next_of(notifications)).data == 2
    assert "websocket: closed with 1012" in [each.cause for each in states]


async def test_proxy_that_accepts_the_upgrade_and_cuts_it(shared: Server, alice: TokenUser, bob: TokenUser) -> None:
    async with Proxy(shared.port) as proxy:
        proxy.socket_life = 0.2
        async with bob.client(proxy.url, transports=["websocket", "longpoll"]) as tab:
            following = asyncio.create_task(next_of(tab.notifications(since=0)))
            async with asyncio.timeout(DEADLINE):
                while tab.status.transport != "longpoll":
                    await asyncio.sleep(0.01)
            assert proxy.cut >= 2
            await asyncio.to_thread(alice.send, bob, "hello")
            assert (await following).data == 1


async def test_proxy_that_never_delivers(shared: Server, alice: TokenUser, bob: TokenUser) -> None:
    async with Proxy(shared.port) as proxy:
        proxy.mute = True
        await asyncio.to_thread(alice.send, bob, "hello")
        async with bob.client(proxy.url, transports=["websocket", "longpoll"]) as tab:
            notifications = tab.notifications()
            assert (await next_of(notifications)).data == 1, "by a poll"
            assert proxy.passed["websocket"] == 1
            async with asyncio.timeout(DEADLINE):
                while tab.status.transport != "longpoll":
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(alice.send, bob, "hello")
            assert (await next_of(notifications)).data == 2


async def test_wall_clock_set_back_does_not_stop_the_client(
    server: Server, pair: tuple[TokenUser, TokenUser], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    real = time.time
    async with bob.client() as tab:
        notifications = tab.notifications()
        for number, offset in enumerate((0, -86400, 86400), 1):
            monkeypatch.setattr(time, "time", lambda offset=offset: real() + offset)
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(alice.send, bob, "hello")
            assert (await next_of(notifications)).data == number


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
async def test_revoked_token_raises_signed_out(alice: TokenUser, bob: TokenUser, transport: str) -> None:
    await asyncio.to_thread(alice.send, bob, "hello")
    async with bob.client(transports=[transport]) as tab:
        notifications = tab.notifications()
        assert (await next_of(notifications)).data == 1
        await asyncio.to_thread(bob.revoke)
        with pytest.raises(SignedOut):
            await next_of(notifications)
        with pytest.raises(SignedOut):
            await next_of(notifications)


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_token_function_replaces_a_token_that_ends(tmp_path: Path, transport: str, asynchronous: bool) -> None:
    """It is called before each request; the publishing client has one as well."""
    made: list[str] = []

    def token() -> str:
        made.append(site_tokens.signed("maria", aud=None, exp=time.time() + 1, jti=str(len(made))))
        return made[-1]

    async def soon() -> str:
        return token()

    def service() -> str:
        return site_tokens.signed("shop", aud=None, scope=site_tokens.PUBLISH)

    with Server(tmp_path, environ={"MICROBLOG_JWT_KEY": site_tokens.SECRET}) as server:
        async with (
            Client(server.url, soon if asynchronous else token, transports=[transport]) as tab,
            Client(server.url, service) as shop,
        ):
            await shop.publish("maria", "orders", 1)
            notifications = tab.notifications()
            assert (await next_of(notifications)).data == 1
            used = len(made)
            async with asyncio.timeout(DEADLINE):
                while len(made) == used:  # until the token has ended
                    await asyncio.sleep(0.01)
            await shop.publish("maria", "orders", 2)
            assert (await next_of(notifications)).data == 2


async def test_exception_of_the_token_function_ends_the_loop(shared: Server) -> None:
    def broken() -> str:
        raise LookupError("no key")

    async with Client(shared.url, broken) as tab:
        with pytest.raises(LookupError, match="no key"):
            await next_of(tab.notifications())
        with pytest.raises(LookupError, match="no key"):
            await tab.send("bob", "hello")


async def test_invalid_token_raises_signed_out(shared: Server) -> None:
    async with Client(shared.url, "not-a-token") as tab:
        with pytest.raises(SignedOut):
            await next_of(tab.notifications())


async def test_connect_timeout_raises_unreachable() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with Client(url, "token", connect_timeout=0.2) as tab:
        with pytest.raises(Unreachable, match=r"within 0\.2 s"):
            await next_of(tab.notifications())


async def test_slow_loop_receives_the_newest_and_keeps_a_safe_cursor(alice: TokenUser, bob: TokenUser) -> None:
    async with bob.client() as tab:
        notifications = tab.notifications()
        await asyncio.to_thread(alice.send, bob, "1")
        first = await next_of(notifications)
        for number in range(2, 6):
            await asyncio.to_thread(alice.send, bob, f"{number}")
        assert tab.cursor == first.timestamp
        while (last := await next_of(notifications)).data != 5:
            assert tab.cursor == last.timestamp
        assert tab.cursor == last.timestamp


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://localhost",
        "http://",
        "http://localhost:99999",
        "http://localhost:port",
        "http://[::1",
        "http://local\nhost",
        "http://xn--a.example",
        "http://localhost?since=1",
        "http://localhost/#messages",
    ],
)
def test_invalid_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="not the URL of a server"):
        Client(url, "token")


def test_password_in_the_url_is_refused_and_not_shown() -> None:
    """It would replace the token in the header."""
    with pytest.raises(ValueError, match="password") as refused:
        Client("http://bob:secret@localhost", "token")
    assert "secret" not in str(refused.value)


def test_scheme_in_upper_case_serves_every_transport() -> None:
    assert Client("HTTPS://Localhost:8000/badge/", "token").url == "https://Localhost:8000/badge"


def test_transports_and_token_are_checked() -> None:
    with pytest.raises(ValueError, match="transports"):
        Client("http://localhost", "token", transports=["carrier"])
    with pytest.raises(ValueError, match="token") as refused:
        Client("http://localhost", "a secret\r\nX: y")
    assert "secret" not in str(refused.value)


async def test_token_is_not_logged(shared: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Client(shared.url, "very-private", timeout=0) as tab:
        with pytest.raises(SignedOut):
            await next_of(tab.notifications())
        with pytest.raises(Rejected) as refused:
            await tab.send("bob", "hello")
    assert len(caplog.records) > 0
    assert "very-private" not in caplog.text + repr(refused.value) + repr(tab)


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_session_of_a_page_subscribes_as_well(shared: Server, alice: TokenUser, transport: str) -> None:
    """With the cookies of a browser, which a WebSocket sends with the server's Origin."""
    bob = await asyncio.to_thread(shared.person, "bob")
    async with Client(shared.url, cookies=dict(bob.client.cookies), transports=[transport]) as tab:
        notifications = tab.notifications()
        async with alice.client() as publisher:
            await publisher.publish("bob", transport, 7)
        while (each := await next_of(notifications)).name != transport:
            pass
        assert (each.data, tab.status.transport) == (7, transport)
        await asyncio.to_thread(bob.post, "/auth/logout")
        with pytest.raises(SignedOut):
            await next_of(notifications)
    bob.close()


async def test_send_is_repeated_with_the_same_key(shared: Server, alice: TokenUser, bob: TokenUser) -> None:
    """While a proxy refuses it, and after its response is lost."""
    async with Proxy(shared.port) as proxy:
        proxy.refuses, proxy.loses = {"api"}, 2
        async with alice.client(proxy.url) as tab:
            sending = asyncio.create_task(tab.send(bob.name, "hello"))
            async with asyncio.timeout(DEADLINE):
                while not proxy.refused["api"]:
                    await asyncio.sleep(0.01)
            proxy.refuses = set()
            sent = await sending
            assert (sent["body"], proxy.passed["api"], proxy.lost) == ("hello", 3, 2)
            proxy.loses = 1
            await tab.send(bob.name, "hello", key="mine")
            assert proxy.lost == 3
    assert await asyncio.to_thread(bob.state) == {COUNT: 2}, "each is stored once"


async def test_message_is_sent_once_for_each_key(alice: TokenUser, bob: TokenUser) -> None:
    async with alice.client() as tab:
        sent = await tab.send(bob.name, "hello", key="one")
        assert (sent["author"], sent["recipient"], sent["body"]) == (alice.name, bob.name, "hello")
        assert await tab.send(bob.name, "hello", key="one") == sent
        with pytest.raises(KeyReused):
            await tab.send(bob.name, "another text", key="one")
        with pytest.raises(NotFound, match="john"):
            await tab.send("john", "hello")
        with pytest.raises(Invalid):
            await tab.send(bob.name, "")
    assert bob.state() == {COUNT: 1}


async def test_send_and_publish_wait_for_a_restart(server: Server, pair: tuple[TokenUser, TokenUser]) -> None:
    alice, bob = pair
    async with alice.client() as tab:
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        sending = asyncio.create_task(tab.send(bob.name, "hello"))
        publishing = asyncio.create_task(tab.publish(bob.name, "build", {"passed": True}))
        await asyncio.to_thread(server.start)
        await asyncio.gather(sending, publishing)
    assert bob.state() == {COUNT: 1, "build": {"passed": True}}


async def test_publish_many_returns_results_in_order(alice: TokenUser, bob: TokenUser) -> None:
    async with alice.client() as tab:
        users = ["john" if n == 500 else bob.name for n in range(502)]
        results = await tab.publish_many([(user, f"n{n % 10}", n) for n, user in enumerate(users)])
        assert [n for n, each in enumerate(results) if each is not None] == [500]
        assert isinstance(results[500], NotFound)
        with pytest.raises(Invalid, match="unread_"):
            await tab.publish(bob.name, COUNT, 7)
    assert max(bob.state().values()) == 501


async def test_batch_with_a_key_is_published_once(alice: TokenUser, bob: TokenUser) -> None:
    """Also one that is sent in two requests."""
    items = [(bob.name, "a", 1), *[(bob.name, "b", 1)] * 500]
    async with alice.client() as tab:
        await tab.publish_many(items, idempotency_key="mine")
        await tab.publish_many([(bob.name, "a", 2), (bob.name, "b", 2)])
        assert await tab.publish_many(items, idempotency_key="mine") == [None] * 501
        assert bob.state() == {"a": 2, "b": 2}
        with pytest.raises(KeyReused):
            await tab.publish_many([(bob.name, "a", 3)], idempotency_key="mine")


@pytest.mark.parametrize("key", ["a/b", "/", ".", "..", "../a", "%2F", "a?b#c", "é"])
async def test_key_of_a_notification_is_any_text(alice: TokenUser, bob: TokenUser, key: str) -> None:
    async with alice.client() as tab:
        await tab.publish(bob.name, key, 1)
        assert bob.state() == {key: 1}
        await tab.publish_many([(bob.name, key, 2)])
        assert bob.state() == {key: 2}


async def test_batch_is_divided_by_items_and_by_bytes(alice: TokenUser, bob: TokenUser) -> None:
    """Over the limits of the server it would be refused as a whole."""
    async with alice.client() as tab:
        assert await tab.publish_many([(bob.name, "n", "x" * 4000)] * 501) == [None] * 501
        assert await tab.publish_many([]) == []


async def test_missing_scope_raises_forbidden(shared: Server, bob: TokenUser) -> None:
    alice = await asyncio.to_thread(token_user, shared, SEND_MESSAGES)
    async with alice.client() as tab:
        with pytest.raises(Forbidden):
            await tab.publish(bob.name, "build", 1)
        with pytest.raises(Forbidden):
            await next_of(tab.notifications())


async def test_marking_as_read_shows_the_new_count_once(alice: TokenUser, bob: TokenUser) -> None:
    await asyncio.to_thread(alice.send, bob, "hello")
    async with bob.client() as tab:
        notifications = tab.notifications()
        assert (await next_of(notifications)).data == 1
        await tab.mark_read(tab.cursor)
        assert (await next_of(notifications)).data == 0
        await asyncio.to_thread(alice.send, bob, "again")
        assert (await next_of(notifications)).data == 1


async def test_read_count_is_merged_without_moving_the_cursor(shared: Server, alice: TokenUser, bob: TokenUser) -> None:
    """Only the subscription moves it, whose frames a proxy drops."""
    async with Proxy(shared.port) as proxy:
        await asyncio.to_thread(alice.send, bob, "hello")
        async with bob.client(proxy.url, transports=["websocket"]) as tab:
            notifications = tab.notifications()
            first = await next_of(notifications)
            proxy.mute = True
            await tab.mark_read(first.timestamp)
            assert (await next_of(notifications)).data == 0
            assert tab.cursor == first.timestamp


async def test_unanswered_send_raises_unreachable() -> None:
    async with Client(f"http://127.0.0.1:{free_port()}", "token", timeout=0) as tab:
        with pytest.raises(Unreachable):
            await tab.send("bob", "hello")


def test_synchronous_client_subscribes_and_sends(shared: Server, alice: TokenUser, bob: TokenUser) -> None:
    alice.send(bob, "one")
    with SyncClient(shared.url, bob.token) as tab:
        received = []
        for each in tab.notifications():
            received.append(each.data)
            if each.data == 2:
                break
            alice.send(bob, "two")
        assert received == [1, 2]
        assert tab.cursor == each.timestamp


def test_example_of_the_synchronous_client(shared: Server, alice: TokenUser) -> None:
    """It sends to the demo account bob."""
    result = doctest.testmod(sync, extraglobs={"url": shared.url, "token": alice.token})
    assert (result.failed, result.attempted) == (0, 1)
    assert token_user(shared, name="bob").state()["build"] == {"passed": True}

"""The push edge beside the real application: equal answers over both ways in, and every kind of listening socket."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect, unix_connect
from werkzeug.datastructures import Headers

from microblog_rt import __version__, files, metrics, server
from microblog_rt.errors import Unavailable
from microblog_rt.models import User
from microblog_rt.settings import Settings
from microblog_rt.storage import notifications as notification_rows
from tests.asgi_server import RawClient, raw_client, warnings_logged
from tests.edge_site import Site, served
from tests.ports import free_port
from tests.raw_responses import Response, response, rest, until
from tests.server_process import DEADLINE

pytestmark = pytest.mark.sqlite


@pytest.fixture
async def site(settings: Settings, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Site]:
    async with served(replace(settings, tabs_per_user=2)) as site:
        yield site
    assert warnings_logged(caplog.records) == []
    assert metrics.WEBSOCKETS.value(metrics._own) == metrics.LONG_POLLS.value(metrics._own) == 0


@pytest.fixture
async def client(site: Site) -> AsyncIterator[RawClient]:
    async with raw_client(site.port) as client:
        yield client


def get(target: str, *fields: str, method: str = "GET", host: str = "127.0.0.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode("latin-1")


# Equal answers


async def by_application(site: Site, target: str, *fields: str, method: str = "GET") -> Response:
    """The answer of the ASGI application, without a server."""
    headers = Headers(
        [("Host", "127.0.0.1"), *((name, value) for name, _, value in (field.partition(": ") for field in fields))]
    )
    client: Any = site.app.test_client()
    answer = await client.open(target, method=method, headers=headers)
    return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, await answer.get_data())


async def assert_equal(site: Site, client: RawClient, status: int, target: str, *fields: str, **more: Any) -> Response:
    """Fail unless the edge and the application give the same answer, with that status."""
    passed_on = len(site.passed_on)
    await client.send(get(target, *fields, **more))
    by_edge = await response(client, body=more.get("method") != "HEAD")
    assert len(site.passed_on) == passed_on + (more.get("method") == "POST"), "served by the edge"
    application = await by_application(site, target, *fields, **more)
    assert by_edge.status == application.status == status
    if more.get("method") != "HEAD":
        assert by_edge.body == application.body
    headers = {name: value for name, value in by_edge.headers.items() if name not in ("date", "connection")}
    assert headers == application.headers
    return by_edge


async def test_answers_are_equal_over_both_ways(site: Site, client: RawClient) -> None:
    user = await site.user()
    cookie = f"Cookie: {await site.cookie(user)}"
    found = await assert_equal(site, client, 200, "/notifications", cookie)
    assert (found.body, found.headers["poll-after"]) == (b"[]", "5")
    added = await site.services.notifications.add_notification(user.id, "a", {"ü": [1, None]})
    for target in ("/notifications", "/notifications?since=1", "/notifications?wait=0", "/notifications?wait=9"):
        found = await assert_equal(site, client, 200, target, cookie)
        assert json.loads(found.body) == [
            {"name": "a", "data": {"ü": [1, None]}, "timestamp": added.timestamp / 1_000_000}
        ]
    await assert_equal(site, client, 200, "/notifications?name=b", cookie)
    await assert_equal(site, client, 200, "/notifications", cookie, method="HEAD")
    await assert_equal(site, client, 200, "/notifications?since=1e300", cookie, "X-Name: Zoë")
    await assert_equal(site, client, 405, "/notifications", cookie, method="POST")
    for target in ("since=nan", "since=1&since=1", "wait=x", "%00", "since=-1", "name=" + "x&name=" * 200):
        await assert_equal(site, client, 400, f"/notifications?{target}", cookie)
    await assert_equal(site, client, 403, "/notifications", cookie, "Origin: https://evil.example")
    await assert_equal(site, client, 401, "/notifications?user=0", cookie)
    await assert_equal(site, client, 401, "/notifications", "Cookie: nothing")
    await assert_equal(site, client, 401, "/notifications")
    await site.end_sessions(user)
    for target in ("/notifications", "/notifications?wait=9"):
        found = await assert_equal(site, client, 401, target, cookie)
        assert json.loads(found.body)["code"] == "signed_out"


@pytest.mark.parametrize(
    "head",
    [
        ("Host: 127.0.0.1",),
        ("Host: evil.example",),
        ("X: a", "\tb"),
        ("X: a", " b"),
        (" X: a",),
        ("Cookie: a\xff",),
        ("X:",),
        ("Connection: keep-alive, x",),
    ],
    ids=repr,
)
async def test_odd_heads_are_answered_as_by_hypercorn(site: Site, head: tuple[str, ...]) -> None:
    cookie = f"Cookie: {await site.cookie(await site.user())}"
    found = []
    # The second is the same path, which the edge does not serve.
    for target in ("/notifications", "/%6eotifications"):
        async with raw_client(site.port) as client:
            await client.send(get(target, *head, cookie))
            answer = await response(client)
            found.append((answer.status, answer.body, answer.headers.get("connection")))
    if head[0].startswith("Host"):  # Hypercorn refuses it before the application is asked
        assert {status for status, *_ in found} == {400}
    else:
        assert found[0] == found[1]
    assert site.passed_on[-1:] in ([], ["/notifications"])


@pytest.mark.parametrize(
    ("host", "fields", "status"),
    [("evil.example", (), 400), ("127.0.0.1", ("Host: 127.0.0.1",), 400), ("", (), 400), ("localhost", (), 401)],
)
async def test_host_is_checked(
    site: Site, client: RawClient, host: str, fields: tuple[str, ...], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    await client.send(get("/notifications", *fields, host=host))
    answer = await response(client)
    assert answer.status == status
    # Hypercorn closes after an ambiguous request.
    assert answer.headers.get("connection") == ("close" if fields else None)
    if not fields:
        await client.send(b"GET /notifications HTTP/1.1\r\n\r\n")
        assert (await response(client)).status == 400
    caplog.clear()


async def test_absolute_target_is_served_by_the_edge(site: Site) -> None:
    cookie = f"Cookie: {await site.cookie(await site.user())}"
    for host, status in (("127.0.0.1", 200), ("evil.example", 400)):
        async with raw_client(site.port) as client:
            for byte in get(f"http://{host}/notifications?since=1", cookie):
                await client.send(bytes([byte]))
            answer = await response(client)
            assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert site.passed_on == []


async def test_too_many_held_polls_are_refused_over_both_ways(site: Site, client: RawClient) -> None:
    cookie = f"Cookie: {await site.cookie(await site.user())}"
    async with raw_client(site.port) as first, raw_client(site.port) as second:
        for each in (first, second):
            await each.send(get("/notifications?wait=30", cookie))
        await until(lambda: len(site.services.hub.subscribers()) == 2)
        found = await assert_equal(site, client, 429, "/notifications?wait=30", cookie)
        assert json.loads(found.body)["code"] == "too_many"
        assert found.headers["retry-after"] == "5"
        await assert_equal(site, client, 200, "/notifications", cookie)


async def test_unavailable_database_is_reported_over_both_ways(
    site: Site, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = f"Cookie: {await site.cookie(await site.user())}"

    async def unavailable(*_: object) -> None:
        raise Unavailable

    monkeypatch.setattr(notification_rows, "since", unavailable)
    for target in ("/notifications", "/notifications?wait=9"):
        found = await assert_equal(site, client, 503, target, cookie)
        assert "retry-after" in found.headers


async def test_draining_process_refuses_over_both_ways(site: Site, client: RawClient) -> None:
    cookie = f"Cookie: {await site.cookie(await site.user())}"
    site.services.hub.stop_accepting(lambda: 3.0)
    found = await assert_equal(site, client, 503, "/notifications?wait=30", cookie)
    assert json.loads(found.body)["code"] == "draining"
    await assert_equal(site, client, 200, "/notifications", cookie)


async def test_unexpected_error_is_reported_by_the_edge(
    site: Site, client: RawClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cookie = f"Cookie: {await site.cookie(await site.user())}"

    async def fails(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(notification_rows, "since", fails)
        for target in ("/notifications", "/notifications?wait=9"):
            await client.send(get(target, cookie))
            answer = await response(client)
            assert (answer.status, json.loads(answer.body)["code"]) == (500, "unexpected")
    with monkeypatch.context() as patch:
        patch.setattr(site.app.extensions["admission"], "admit", None)
        await client.send(get("/notifications", cookie, "X: not the fields of the last request"))
        assert (await response(client)).status == 500
    await client.send(get("/notifications", cookie))
    assert (await response(client)).status == 200
    assert len(warnings_logged(caplog.records)) == 3
    caplog.clear()


# Polls and sessions


async def test_poll_sees_what_was_sent_and_the_end_of_its_session(site: Site, client: RawClient) -> None:
    user = await site.user()
    poll = get("/notifications", f"Cookie: {await site.cookie(user)}")
    other = get("/notifications", f"Cookie: {await site.cookie(user)}")
    for number in range(3):
        await site.services.notifications.add_notification(user.id, "a", number)
        for each in (poll, other):
            await client.send(each)
            assert json.loads((await response(client)).body)[0]["data"] == number
    await site.end_sessions(user)
    for each in (poll, other):
        await client.send(each)
        assert (await response(client)).status == 401


async def test_pipelined_polls_that_read_are_answered_in_order(site: Site, client: RawClient) -> None:
    user = await site.user()
    added = await site.services.notifications.add_notification(user.id, "a", 1)
    cookie = f"Cookie: {await site.cookie(user)}"
    ahead, nothing = added.timestamp / 1e6 + 1e6, added.timestamp / 1e6
    await client.send(
        get(f"/notifications?since={ahead}", cookie)
        + get(f"/notifications?since={nothing}", cookie)
        + get("/healthz")
        + get("/notifications", cookie)
    )
    bodies = [(await response(client)).body for _ in range(4)]
    assert [len(json.loads(body)) for body in (bodies[0], bodies[1], bodies[3])] == [1, 0, 1]


async def test_client_that_disconnects_during_a_read_cancels_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = f"Cookie: {await site.cookie(await site.user())}"
    reading = asyncio.Event()

    async def hangs(*_: object) -> None:
        reading.set()
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(notification_rows, "since", hangs)
    async with raw_client(site.port) as client:
        await client.send(get("/notifications", cookie, "Connection: close"))
        async with asyncio.timeout(DEADLINE):
            await reading.wait()
    await site.services.feed.close()


@pytest.mark.parametrize("page", ["/auth/login", "/healthz", f"/static/{__version__}/rt/messages.js"])
async def test_upgrade_as_soon_as_a_page_has_arrived(site: Site, page: str) -> None:
    """A proxy may send it on the connection of the page, before Hypercorn has finished with that."""
    cookie = await site.cookie(await site.user())
    origin = "http://127.0.0.1"
    key = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    handshake = get(
        "/notifications", *key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Origin: {origin}", f"Cookie: {cookie}"
    )

    def statuses() -> set[bytes]:
        found = set()
        for _ in range(20):
            with (
                socket.create_connection(("127.0.0.1", site.port), timeout=DEADLINE) as raw,
                raw.makefile("rb") as stream,
            ):
                raw.sendall(get(page))
                assert stream.readline().startswith(b"HTTP/1.1 200")
                while (line := stream.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                assert len(stream.read(length)) == length
                raw.sendall(handshake)
                found.add(stream.readline())
        return found

    assert await asyncio.to_thread(statuses) == {b"HTTP/1.1 101 Switching Protocols\r\n"}


# Listening sockets


async def try_everything(site: Site, client: RawClient, user: User, origin: str, tab: Any) -> None:
    """A poll, a page, a poll after it, and a WebSocket, over one kind of connection."""
    cookie, host = await site.cookie(user), origin.partition("//")[2]
    for _ in range(2):
        await client.send(get("/notifications", f"Cookie: {cookie}", host=host))
        assert (await response(client)).status == 200
        await client.send(get("/healthz", host=host))
        assert (await response(client)).status == 200
    assert site.passed_on == ["/healthz"] * 2
    async with tab(origin=origin, additional_headers={"Cookie": cookie}, compression=None) as opened:
        async with asyncio.timeout(DEADLINE):
            await opened.recv()
            for number in range(3):
                await site.services.notifications.add_notification(user.id, "a", number)
                assert json.loads(await opened.recv())[0]["data"] == number
                await opened.send("1")
            await site.end_sessions(user)
            await opened.wait_closed()
        assert (opened.close_code, opened.close_reason) == (4401, "signed_out")
    await client.send(get("/notifications", f"Cookie: {cookie}", "Connection: close", host=host))
    assert (await response(client)).status == 401
    assert await rest(client) == b""


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it has signed itself, and its key."""
    found = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
            *("-out", str(found[0]), "-keyout", str(found[1])),
        ],
        check=True,
        capture_output=True,
    )
    return found


async def test_tls_of_hypercorn_toml_is_used(
    settings: Settings, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = tmp_path / "hypercorn.toml"
    own = files.HYPERCORN.read_text()
    toml.write_text(f'{own}\ncertfile = "{certificate[0]}"\nkeyfile = "{certificate[1]}"\n')
    real = server.configuration
    monkeypatch.setattr(server, "configuration", lambda: real(toml))
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    port = free_port()
    origin = f"https://127.0.0.1:{port}"
    async with served(replace(settings, public_url=origin), f"127.0.0.1:{port}") as site:
        user = await site.user()
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=trusting)

        def tab(**options: Any) -> Any:
            return connect(f"wss://127.0.0.1:{site.port}/notifications", ssl=trusting, proxy=None, **options)

        await try_everything(site, RawClient(reader, writer), user, origin, tab)
        async with raw_client(site.port) as plain:  # leaves nothing that would fail at the end
            await plain.send(get("/notifications"))
            assert await rest(plain) == b""
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
    assert metrics.WEBSOCKETS.value(metrics._own) == 0


async def test_unix_socket_is_served(settings: Settings, tmp_path: Path) -> None:
    path = str(tmp_path / "http.sock")
    async with served(settings, f"unix:{path}") as site:
        reader, writer = await asyncio.open_unix_connection(path)

        def tab(**options: Any) -> Any:
            return unix_connect(path, "ws://127.0.0.1/notifications", **options)

        await try_everything(site, RawClient(reader, writer), await site.user(), "http://127.0.0.1", tab)
        writer.close()


async def test_ipv6_is_served(settings: Settings) -> None:
    async with served(replace(settings, bind_hosts=frozenset({"::1"})), "[::1]:0") as site:
        reader, writer = await asyncio.open_connection("::1", site.port)

        def tab(**options: Any) -> Any:
            return connect(f"ws://[::1]:{site.port}/notifications", proxy=None, **options)

        await try_everything(site, RawClient(reader, writer), await site.user(), f"http://[::1]:{site.port}", tab)
        writer.close()


async def test_heads_that_repeat_are_checked_as_new_ones(site: Site, client: RawClient) -> None:
    user = await site.user()
    cookie = f"Cookie: {await site.cookie(user)}"
    await assert_equal(site, client, 200, "/notifications?since=1", cookie)
    await assert_equal(site, client, 200, "/notifications?since=2", cookie)
    for status, target, fields in (
        (400, "/notifications?since=x", (cookie,)),
        (400, "/notifications?name=%00", (cookie,)),
        (401, f"/notifications?user={user.id + 1}", (cookie,)),
        (200, f"/notifications?user={user.id}", (cookie,)),
        (401, "/notifications?since=3", ()),
        (403, "/notifications?since=4", (cookie, "Origin: https://evil.example")),
        (200, "/notifications?since=5", (cookie,)),
    ):
        await assert_equal(site, client, status, target, *fields)
    await assert_equal(site, client, 200, "/notifications?since=6", cookie, method="HEAD")
    await assert_equal(site, client, 200, "/notifications?since=7", cookie)
    await site.end_sessions(user)
    await assert_equal(site, client, 401, "/notifications?since=8", cookie)

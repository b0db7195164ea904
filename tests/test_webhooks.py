"""Webhooks: what no client has received is POSTed, at least once, signed, and only to addresses that are allowed."""

import asyncio
import logging
import re
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from microblog_rt import files, webhooks
from microblog_rt.app import create_app
from microblog_rt.errors import Misconfigured, Unavailable
from microblog_rt.hub import Subscriber
from microblog_rt.models import User
from microblog_rt.protocol import seconds
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts
from microblog_rt.webhooks import Webhooks
from microblog_rt.webhooks.receiver import SIGNATURE, Failed, Receiver, is_public, signature
from tests.asgi_server import HANDSHAKE, Application, client_frame, raw_client, serving
from tests.clients import DEADLINE, Client, send, signed_in
from tests.server_process import Server
from tests.webhook_receiver import ACCEPTED, FAILED, HELD, LocalReceiver, receiving

SECRET, OLD_SECRET = "new-0123456789abcdef-0123456789abcdef", "old-0123456789abcdef-0123456789abcdef"
AFTER = 30.0
DAY = 86_400.0
EVERY = 3.0  # seconds, longer than the interval of a turn
QUICK = Timeouts(webhook_post=0.2)


class Process:
    """The webhooks of one process, and its clock."""

    def __init__(self, services: Services, receiver: Receiver, settings: Settings) -> None:
        self.services = services
        self.ahead = 0.0
        self.hooks = Webhooks(services.storage, services.hub, receiver, settings, ahead=lambda: self.ahead)

    async def notify(self, user: User, name: str, data: Any) -> None:
        """Set a notification, at the time of this clock."""
        await self.services.mailboxes.change(user.id, lambda change: change.set(user.id, name, data), ahead=self.ahead)

    async def after(self, passed: float) -> None:
        """What the tasks do when so many seconds have passed."""
        self.ahead += passed
        await self.hooks.note_confirmed()
        await self.hooks.post_due()


Start = Callable[..., Any]


def configured(settings: Settings, url: str) -> Settings:
    return replace(settings, webhook_url=url, webhook_secret=SECRET, webhook_after=AFTER, webhook_private=True)


@pytest.fixture
async def receiver() -> AsyncIterator[LocalReceiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def process(services: Services, settings: Settings, receiver: LocalReceiver) -> AsyncIterator[Process]:
    """A process that has begun to use webhooks."""
    chosen = configured(settings, receiver.url)
    async with Receiver(chosen) as client:
        process = Process(services, client, chosen)
        await process.after(0)
        yield process


async def test_untold_notification_is_posted_once(process: Process, receiver: LocalReceiver, susan: User) -> None:
    await send(process.services, susan)
    sent = await process.services.notifications.add_notification(susan.id, "job", {"state": "done"})
    await process.after(AFTER - 1)
    assert receiver.posts == []
    await process.after(EVERY)
    (post,) = receiver.posts
    count, job = post.json["notifications"]
    assert post.json["user"] == "susan"
    assert (count["name"], count["data"]) == ("unread_message_count", 1)
    assert job == {"name": "job", "data": {"state": "done"}, "timestamp": float(seconds(sent.timestamp))}
    assert b"hello" not in post.body
    await process.after(DAY)
    assert len(receiver.posts) == 1


async def test_post_has_what_is_newer_than_the_last_one(process: Process, receiver: LocalReceiver, susan: User) -> None:
    for number in range(2):
        await process.notify(susan, f"name{number}", number)
        await process.after(AFTER + EVERY)
    names = [[each["name"] for each in post.json["notifications"]] for post in receiver.posts]
    assert names == [["name0"], ["name1"]]


async def test_state_that_keeps_changing_is_posted(process: Process, receiver: LocalReceiver, susan: User) -> None:
    for number in range(7):
        await process.notify(susan, "job", number)
        await process.after(AFTER / 5)
    assert [post.json["notifications"][0]["data"] for post in receiver.posts] == [4]


async def test_current_tab_prevents_a_post(process: Process, receiver: LocalReceiver, susan: User) -> None:
    tab = Client(process.services, await signed_in(process.services, susan))
    await tab.connect()
    await send(process.services, susan)
    await tab.until(lambda: tab.state == {"unread_message_count": 1})
    await process.after(AFTER + EVERY)
    await tab.disconnect()
    await process.after(AFTER + EVERY)
    assert receiver.posts == []
    await send(process.services, susan)
    await process.after(AFTER + EVERY)
    assert [post.json["notifications"][0]["data"] for post in receiver.posts] == [2]


async def test_stream_of_some_names_prevents_no_post(process: Process, receiver: LocalReceiver, susan: User) -> None:
    reader = await signed_in(process.services, susan)
    await send(process.services, susan)
    follow = process.services.feed.follow(reader, 0, {"unread_message_count"}, heartbeat=3600)
    assert len(await anext(follow)) == 1
    await process.after(AFTER + EVERY)
    await follow.aclose()
    assert len(receiver.posts) == 1


async def test_tab_that_closes_early_prevents_no_post(process: Process, receiver: LocalReceiver, susan: User) -> None:
    tab = Client(process.services, await signed_in(process.services, susan))
    await tab.connect()
    await process.after(EVERY)
    await tab.disconnect()
    await send(process.services, susan)
    await process.after(AFTER + EVERY)
    assert len(receiver.posts) == 1


async def test_tab_that_follows_a_changing_state_prevents_a_post(
    process: Process, receiver: LocalReceiver, susan: User
) -> None:
    """Also when its acknowledgement is that of a state which was replaced meanwhile."""
    client = Client(process.services, await signed_in(process.services, susan))
    for number in range(10):
        await client.poll()
        await process.notify(susan, "job", number)
        await process.after(AFTER / 4)
    assert receiver.posts == []
    assert len(client.state) == 1


async def test_poll_confirms_with_its_next_cursor(process: Process, receiver: LocalReceiver, susan: User) -> None:
    client = Client(process.services, await signed_in(process.services, susan))
    await send(process.services, susan)
    await client.poll()
    told = process.services.hub.confirmed()
    assert told[susan.id] < client.since
    await client.poll()
    assert process.services.hub.confirmed() == {susan.id: client.since}
    await process.after(AFTER + EVERY)
    assert receiver.posts == []


async def test_client_that_leaves_has_confirmed(process: Process, receiver: LocalReceiver, susan: User) -> None:
    """Although it leaves before what it has confirmed is stored."""
    client = Client(process.services, await signed_in(process.services, susan))
    await send(process.services, susan)
    await client.poll()

    class Leaving(Subscriber):
        def confirmed(self) -> int:
            return client.since

    process.services.hub.add(leaving := Leaving(susan.id))
    process.services.hub.remove(leaving)
    await process.after(AFTER + EVERY)
    assert receiver.posts == []


async def test_cursor_ahead_of_the_clock_confirms_nothing(
    process: Process, receiver: LocalReceiver, susan: User
) -> None:
    client = Client(process.services, await signed_in(process.services, susan), since=2**62)
    await send(process.services, susan)
    await process.services.feed.page(client.reader, client.since)
    await process.after(AFTER + EVERY)
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("ready", [True, False], ids=["known", "read"])
async def test_websocket_confirms_with_its_acknowledgement(ready: bool) -> None:
    async with serving(Application()) as it, raw_client(it.port) as client:
        it.feed.knows = ready
        await client.send(HANDSHAKE + b"\r\n")
        await client.head()
        await client.frame()
        it.feed.send("1")
        assert b'"data": 1' in (await client.frame())[1]
        assert it.feed.hub.confirmed() == {1: 0}
        await client.send(client_frame(0x81, seconds(it.feed.clock).encode()) + client_frame(0x89))
        await client.frame()  # the answer to the ping behind it
        assert it.feed.hub.confirmed() == {1: it.feed.clock}
        await client.send(client_frame(0x81, b"9e9") + client_frame(0x89))
        await client.frame()
        assert it.feed.hub.confirmed() == {1: it.feed.clock}


async def test_event_stream_confirms_once_its_data_is_acknowledged() -> None:
    async with serving(Application()) as it, raw_client(it.port, receive_buffer=2048) as client:
        await client.send(b"GET /notifications HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        await client.head()
        it.feed.send("1")
        await client.reader.readuntil(b'"data": 1')
        assert it.feed.hub.confirmed() == {1: it.feed.clock}
        confirmed = it.feed.clock
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            it.feed.send('"' + "x" * 60_000 + '"')
        assert it.feed.hub.confirmed() == {1: confirmed}


async def test_failed_post_is_retried_later_and_later(process: Process, receiver: LocalReceiver, susan: User) -> None:
    await send(process.services, susan)
    receiver.answer = FAILED
    await process.after(AFTER + EVERY)
    assert len(receiver.posts) == 1
    await process.after(2.4)  # a pause is at least a half of 5 seconds
    assert len(receiver.posts) == 1
    await process.after(2.7)
    assert len(receiver.posts) == 2
    await process.after(4.9)
    assert len(receiver.posts) == 2
    receiver.answer = ACCEPTED
    await process.after(5.2)
    assert len(receiver.posts) == 3
    await process.after(DAY)
    assert len(receiver.posts) == 3
    assert len({post.body for post in receiver.posts}) == 1


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the webhooks logged."""
    return [each.getMessage() for each in caplog.records if each.name == "microblog_rt.webhooks"]


async def test_receiver_that_is_down_is_given_up_after_a_day(
    services: Services, settings: Settings, susan: User, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver:
        chosen = configured(settings, receiver.url)
    async with Receiver(chosen) as client:
        process = Process(services, client, chosen)
        await process.after(0)
        await send(services, susan)
        with caplog.at_level(logging.INFO, "microblog_rt.webhooks"):
            await process.after(AFTER + EVERY)
            await process.after(DAY - 60)
            assert len(messages(caplog)) == 1
            await process.after(1000)
            assert re.search(r"user \d+ given up after 24 h", messages(caplog)[1])
            await process.after(DAY)
        assert len(messages(caplog)) == 2


async def test_post_after_giving_up_has_only_what_is_new(
    process: Process, receiver: LocalReceiver, susan: User
) -> None:
    receiver.answer = FAILED
    await process.notify(susan, "old", 1)
    await process.after(AFTER + EVERY)
    await process.after(DAY + 1)
    receiver.answer = ACCEPTED
    await process.notify(susan, "new", 1)
    await process.after(AFTER + EVERY)
    assert [each["name"] for each in receiver.posts[-1].json["notifications"]] == ["new"]


async def test_failing_claims_wait_for_the_next_interval(
    process: Process, receiver: LocalReceiver, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads work and writes do not; another claim at once would fail as well."""
    claims: list[int] = []

    async def fail(user_id: int) -> None:
        claims.append(user_id)
        assert len(claims) == 1, "claimed again without a pause"
        raise Unavailable

    monkeypatch.setattr(webhooks, "USERS_AT_ONCE", 1)
    await send(process.services, susan)
    with monkeypatch.context() as patch:
        patch.setattr(process.hooks, "_post", fail)
        await process.after(AFTER + EVERY)
    assert (claims, receiver.posts) == ([susan.id], [])
    await process.after(EVERY)
    assert len(receiver.posts) == 1


async def test_second_process_does_not_post_meanwhile(
    process: Process, settings: Settings, receiver: LocalReceiver, susan: User
) -> None:
    """Not in the same turn, and not in the next one, while the POST of the first is not answered."""
    chosen = configured(settings, receiver.url)
    receiver.answer = HELD
    await send(process.services, susan)
    async with AsyncExitStack() as stack:
        services = assemble(settings)
        stack.push_async_callback(services.close)
        other = Process(services, await stack.enter_async_context(Receiver(chosen)), chosen)
        process.ahead = other.ahead = AFTER + EVERY
        first = asyncio.create_task(process.after(0))
        await receiver.arrived(1)
        await other.after(0)
        await other.after(EVERY)
        assert len(receiver.posts) == 1
        receiver.answer = ACCEPTED
        await other.after(AFTER)  # the lease has ended: as if the first process had been killed
        assert len(receiver.posts) == 2
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


@pytest.mark.sqlite
async def test_killed_process_has_its_post_repeated(receiver: LocalReceiver, tmp_path: Path) -> None:
    environ = {
        "MICROBLOG_WEBHOOK_URL": receiver.url,
        "MICROBLOG_WEBHOOK_SECRET": SECRET,
        "MICROBLOG_WEBHOOK_AFTER": "0.3",
        "MICROBLOG_WEBHOOK_PRIVATE": "1",
        "MICROBLOG_HEARTBEAT": "0.2",
    }
    receiver.answer = HELD
    with Server(tmp_path, environ=environ) as server:
        alice = await asyncio.to_thread(server.person, "alice")
        # The webhooks begin with the first turn; what is sent before it is not POSTed.
        async with asyncio.timeout(DEADLINE):
            while not receiver.posts:
                await asyncio.to_thread(alice.send, "bob", "hello")
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        alice.close()
    receiver.answer = ACCEPTED
    settings = configured(Settings(f"sqlite+aiosqlite:///{tmp_path}/microblog.db"), receiver.url)
    services = assemble(settings)
    async with Receiver(settings) as client:
        process = Process(services, client, settings)
        await process.after(2 * AFTER)
        assert len(receiver.posts) == 2
        assert receiver.posts[1].json["user"] == receiver.posts[0].json["user"] == "bob"
        await process.after(DAY)
    await services.close()
    assert len(receiver.posts) == 2


@pytest.mark.sqlite
async def test_webhooks_are_off_by_default(settings: Settings) -> None:
    app = create_app(replace(settings, sweep=0.01))
    services: Services = app.extensions["services"]
    seen: list[str] = []
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)
        if "mailbox.clock" in statement:
            loop.call_soon_threadsafe(enough.set)

    for engine in services.storage.engines:
        event.listen(engine, "before_cursor_execute", record)
    async with app.test_app():
        names = {getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()}
        user = await services.accounts.register("susan", "correct horse")
        tab = Client(services, await signed_in(services, user))
        await tab.connect()
        async with asyncio.timeout(DEADLINE):
            await enough.wait()
        await tab.disconnect()
    assert "_delete_expired" in names
    assert "_webhooks" not in names
    assert [each for each in seen if "webhook" in each] == []


@pytest.mark.sqlite
async def test_application_runs_webhooks(settings: Settings, receiver: LocalReceiver) -> None:
    app = create_app(replace(configured(settings, receiver.url), webhook_after=0.1))
    services: Services = app.extensions["services"]
    async with app.test_app():
        user = await services.accounts.register("susan", "correct horse")
        async with asyncio.timeout(DEADLINE):
            while not receiver.posts:  # what is older than the first turn is not POSTed
                await services.notifications.add_notification(user.id, "job", 1)
    assert receiver.posts[0].json["user"] == "susan"


# The receiver, without a database


def documented() -> Any:
    """The function of the example in docs/operations.md."""
    section = (files.CHECKOUT / "docs/operations.md").read_text().partition("\n## Webhooks\n")[2]
    (block,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102
    return names["is_authentic"]


def receiver_settings(url: str, **more: Any) -> Settings:
    return Settings(**{"webhook_url": url, "webhook_secret": SECRET, "webhook_private": True, **more})


async def test_documented_example_verifies_each_secret(receiver: LocalReceiver) -> None:
    is_authentic = documented()
    async with Receiver(receiver_settings(receiver.url, webhook_secret=f"{SECRET}, {OLD_SECRET}")) as client:
        await client.post(b"{}")
    (post,) = receiver.posts
    header = post.headers[SIGNATURE.lower()]
    assert is_authentic(header, post.body, SECRET)
    assert is_authentic(header, post.body, OLD_SECRET)
    assert not is_authentic(header, post.body, "another secret")
    assert not is_authentic(header, post.body + b" ", SECRET)
    assert not is_authentic(signature([SECRET], int(time.time()) - 301, b"{}"), b"{}", SECRET)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (FAILED, "status 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: /hook?key=1\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"nonsense\r\n\r\n", "illegal"),
        (HELD, "no answer within 0.2 s"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "no answer within 0.2 s"),
    ],
    ids=["500", "redirect", "nonsense", "slow", "slow-body"],
)
async def test_other_answer_is_a_failure(receiver: LocalReceiver, answer: bytes, reason: str) -> None:
    receiver.answer = answer
    async with Receiver(receiver_settings(receiver.url), QUICK) as client:
        with pytest.raises(Failed, match=reason):
            await client.post(b"{}")
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_private_address_is_refused(receiver: LocalReceiver, host: str) -> None:
    """Also that of a public-looking name: localhost is one that resolves to it."""
    url = f"http://{host}:{receiver.port}/hook?key=1"
    async with Receiver(receiver_settings(url, webhook_private=False)) as client:
        with pytest.raises(Failed, match="no public address"):
            await client.post(b"{}")
    assert receiver.posts == []
    if host in ("localhost", "127.0.0.1"):
        async with Receiver(receiver_settings(url)) as client:
            await client.post(b"{}")
        assert len(receiver.posts) == 1


async def test_connection_goes_to_the_address_that_was_checked(receiver: LocalReceiver) -> None:
    """The name does not exist outside of the test's resolver, which is asked once for each POST."""
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    url = f"http://hooks.example:{receiver.port}/hook?key=1"
    async with Receiver(receiver_settings(url), resolve=resolve) as client:
        await client.post(b"{}")
    assert asked == ["hooks.example"]
    assert receiver.posts[0].headers["host"] == f"hooks.example:{receiver.port}"


async def test_other_addresses_are_tried_if_one_accepts_no_connection(receiver: LocalReceiver) -> None:
    """And only those that are allowed."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    url = f"http://hooks.example:{receiver.port}/hook?key=1"
    async with Receiver(receiver_settings(url), resolve=resolve) as client:
        await client.post(b"{}")
        assert len(receiver.posts) == 1
        receiver.answer = b"HTTP/1.1 500 Wrong\r\nContent-Length: 0\r\n\r\n"
        with pytest.raises(Failed, match="status 500"):
            await client.post(b"{}")
    assert len(receiver.posts) == 2


@pytest.mark.parametrize("name", ["hooks.example", "other.example"])
async def test_certificate_must_be_of_the_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=hooks.example"]  # type: ignore[list-item]
    command += ["-addext", "subjectAltName=DNS:hooks.example"]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with receiving(tls) as receiver:
        url = f"https://{name}:{receiver.port}/hook?key=1"
        async with Receiver(receiver_settings(url), resolve=resolve) as client:
            if name == "hooks.example":
                await client.post(b"{}")
            else:
                with pytest.raises(Failed, match="certificate"):
                    await client.post(b"{}")
        assert len(receiver.posts) == (name == "hooks.example")


async def test_endless_answer_is_read_in_part(receiver: LocalReceiver) -> None:
    receiver.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 8192
    async with Receiver(receiver_settings(receiver.url), Timeouts(webhook_post=DEADLINE)) as client:
        await client.post(b"{}")
        async with asyncio.timeout(DEADLINE):
            await receiver.lost.wait()


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fec0::1"),
        *("::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "ff02::1", "2001:db8::1"),
    ],
)
def test_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_address_is_public(address: str) -> None:
    assert is_public(address)


GOOD = {"MICROBLOG_WEBHOOK_URL": "https://hooks.example/x", "MICROBLOG_WEBHOOK_SECRET": SECRET}


def test_settings_of_webhooks_are_parsed() -> None:
    more = {"MICROBLOG_WEBHOOK_AFTER": "60", "MICROBLOG_WEBHOOK_PRIVATE": "1"}
    chosen = Settings.from_environ({**GOOD, **more})
    assert (chosen.webhook_url, chosen.webhook_secret) == ("https://hooks.example/x", SECRET)
    assert (chosen.webhook_after, chosen.webhook_private) == (60.0, True)
    assert "hooks.example" not in repr(chosen)
    assert SECRET not in repr(chosen)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("URL", "http://hooks.example/x"),
        ("URL", "https://user@hooks.example/x"),
        ("URL", "https://hooks.example/x#y"),
        ("URL", "ftp://hooks.example/x"),
        ("URL", "https:///x"),
        ("URL", "https://hooks.example:x/"),
        ("SECRET", SECRET[:31]),
        ("SECRET", f"{SECRET},short"),
        ("SECRET", "a" * 40),
        ("AFTER", "20"),
        ("AFTER", "nan"),
        ("PRIVATE", "yes"),
    ],
)
def test_invalid_setting_of_webhooks_is_refused(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"MICROBLOG_WEBHOOK_{name}: "):
        Settings.from_environ({**GOOD, f"MICROBLOG_WEBHOOK_{name}": value})


def test_url_without_a_secret_is_refused() -> None:
    with pytest.raises(Misconfigured, match="MICROBLOG_WEBHOOK_SECRET: must be set"):
        Settings.from_environ({"MICROBLOG_WEBHOOK_URL": "https://hooks.example/x"})

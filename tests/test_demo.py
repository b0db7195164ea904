"""The demo: its history is written once, and its guide answers each message once. Real servers, on both databases."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from microblog_rt import demo
from microblog_rt.demo import guide, history
from microblog_rt.mailboxes import Change
from microblog_rt.messages import Messages
from microblog_rt.models import User
from microblog_rt.protocol import Notification
from microblog_rt.services import Services
from microblog_rt.settings import POSTGRESQL_BUS, SQLITE_BUS, Settings
from microblog_rt.storage.counters import COUNTERS, Counter
from tests.buses import CapturedLog, captured_log, running
from tests.clients import Client, signed_in
from tests.conftest import KEY
from tests.server_process import COMMAND, DEADLINE, Server
from tests.sockets import change, cursor, frame, socket_to

UNREAD = {"unread_message_count": 3, "unread_mention_count": 1, "unread_post_count": 3}


class DemoServer(Server):
    """A server with the whole demo."""

    demo = "--demo"


@pytest.fixture
def environ(settings: Settings) -> dict[str, str]:
    """A server's settings for the database of ``services``."""
    return {"MICROBLOG_DATABASE_URL": settings.database_url, "MICROBLOG_SECRET_KEY": KEY}


@pytest.fixture
def server(tmp_path: Path, environ: dict[str, str]) -> Iterator[DemoServer]:
    with DemoServer(tmp_path, environ=environ) as server:
        yield server
    assert "Traceback" not in server.logged(), server.logged()


@pytest.fixture
async def log() -> AsyncIterator[CapturedLog]:
    with captured_log() as log:
        yield log


async def answers(services: Services, name: str = "alice") -> list[str]:
    """What the guide has answered to that user, oldest first."""
    ids = await services.accounts.ids([name, guide.NAME])
    lines = (await services.conversations.exchange(ids[name], ids[guide.NAME], 50)).rows
    return [each.body for each in lines if not each.own and each.body in guide.ANSWERS]


async def written(services: Services) -> dict[str, Any]:
    """How much there is of everything."""
    users = (await services.accounts.everyone(50)).rows
    return {
        "users": [each.username for each in users],
        "posts": len((await services.posts.explore(50)).rows),
        "messages": [len((await services.messages.inbox(each.id, 50)).rows) for each in users],
    }


def _recount(user_id: int, counter: Counter, change: Change) -> Notification:
    return change.recount(user_id, counter)


async def answered(server: Server, text: str, name: str = "alice") -> None:
    """Send to the guide and wait for the answer in a tab of the sender."""
    person = server.person(name)
    async with socket_to(person, f"?since={cursor(person)}") as tab:
        await frame(tab)
        person.send(guide.NAME, text)
        assert [each["name"] for each in await change(tab)] == ["unread_message_count"]
    person.close()


async def test_first_sign_in_shows_what_is_unread(server: DemoServer) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as visitor:
        for path in ("/auth/login", "/"):
            assert "write to guide" in (await visitor.get(path, follow_redirects=True)).text
    alice = server.person("alice")
    async with socket_to(alice, "?since=0") as tab:
        shown = {each["name"]: each["data"] for each in await frame(tab)}
    assert shown == UNREAD
    assert "Carol Lindqvist" in alice.client.get("/").text
    alice.close()


async def test_history_is_written_once(server: DemoServer, services: Services) -> None:
    first = await written(services)
    assert first["users"] == sorted(history.PEOPLE)
    assert first["posts"] == len(history.POSTS) + len(history.NEWS)
    assert sum(first["messages"]) == len(history.READ) + len(history.UNREAD)
    assert server.stop() == 0
    server.start()
    assert await written(services) == first


async def test_counts_of_history_equal_its_rows(services: Services) -> None:
    await demo.prepare(services, KEY, only_accounts=False)
    for user in (await services.accounts.everyone(50)).rows:
        tab = Client(services, await signed_in(services, user))
        await tab.poll()
        for counter in COUNTERS:
            recount = await services.mailboxes.change(user.id, partial(_recount, user.id, counter))
            assert tab.state.get(counter.name, 0) == recount.data, (user.username, counter.name)


async def test_existing_database_gets_no_history(
    tmp_path: Path, environ: dict[str, str], services: Services, susan: User
) -> None:
    with DemoServer(tmp_path, environ=environ) as server:
        assert await written(services) == {
            "users": ["alice", "bob", guide.NAME, "susan"],
            "posts": 0,
            "messages": [0, 0, 0, 0],
        }
        await answered(server, "hello")
    assert await answers(services) == [guide.ANSWERS[0]]


async def test_guide_answers_in_turn(server: DemoServer, services: Services) -> None:
    assert 1 <= guide.ANSWER_AFTER <= 3
    for number in range(len(guide.ANSWERS) + 1):
        await answered(server, f"message {number}")
    assert await answers(services) == [*guide.ANSWERS, guide.ANSWERS[0]]


async def test_message_is_answered_once_over_restarts(server: DemoServer, services: Services) -> None:
    """It is sent before the server is killed, and marked as unread again after it was answered."""
    alice = server.person("alice")
    since = cursor(alice)
    alice.send(guide.NAME, "one")
    server.stop(signal.SIGKILL)
    server.start()
    async with socket_to(alice, f"?since={since}") as tab:
        while not await answers(services):
            await change(tab)
    alice.close()
    assert server.stop() == 0
    ids = await services.accounts.ids(["alice", guide.NAME])
    unread = await services.conversations.mark_unread(ids[guide.NAME], ids["alice"], 0)
    assert unread.data == 1
    server.start()
    await answered(server, "two", "bob")  # after it has handled what was unread
    assert await answers(services) == [guide.ANSWERS[0]]


async def test_one_of_several_workers_answers(
    tmp_path: Path, environ: dict[str, str], settings: Settings, services: Services
) -> None:
    bus_url = POSTGRESQL_BUS if settings.sqlite_file is None else SQLITE_BUS
    with DemoServer(tmp_path, "--workers", "2", environ=environ | {"MICROBLOG_BUS_URL": bus_url}) as server:
        for text in ("one", "two", "three"):
            await answered(server, text)
    assert len(await answers(services)) == 3
    assert "Traceback" not in server.logged(), server.logged()


async def test_answers_continue_after_an_error(
    services: Services, susan: User, log: CapturedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await demo.prepare(services, KEY, only_accounts=False)
    monkeypatch.setattr(guide, "ANSWER_AFTER", 0.0)
    monkeypatch.setattr(guide, "RETRY_AFTER", 0.01)
    send_message, calls = Messages.send_message, 0

    async def fails_first(self: Messages, *args: Any, **options: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("the first answer fails")
        return await send_message(self, *args, **options)

    ids = await services.accounts.ids([guide.NAME])
    await services.messages.send_message(susan.id, ids[guide.NAME], "hello")
    monkeypatch.setattr(Messages, "send_message", fails_first)
    tab = Client(services, await signed_in(services, susan))
    await tab.connect()
    async with running(guide.run(services)):
        await tab.until(lambda: tab.state.get("unread_message_count") == 1)
    await tab.disconnect()
    assert log.count("automatic answers failed") == 1
    assert await answers(services, "susan") == [guide.ANSWERS[0]]


async def test_no_answer_to_a_disabled_sender(services: Services, susan: User, john: User, monkeypatch: Any) -> None:
    """Its message is marked as read, and those of others are answered."""
    await demo.prepare(services, KEY, only_accounts=False)
    monkeypatch.setattr(guide, "ANSWER_AFTER", 0.0)
    ids = await services.accounts.ids([guide.NAME])
    for sender in (susan, john):
        await services.messages.send_message(sender.id, ids[guide.NAME], "hello")
    await services.accounts.disable("susan")
    reader = Client(services, await signed_in(services, await services.accounts.known(guide.NAME)))
    await reader.connect()
    async with running(guide.run(services)):
        await reader.until(lambda: reader.state.get("unread_message_count") == 0)
    await reader.disconnect()
    assert await answers(services, "susan") == []
    assert await answers(services, "john") == [guide.ANSWERS[0]]


async def test_drain_ends_the_guide(services: Services) -> None:
    await demo.prepare(services, KEY, only_accounts=False)
    async with running(guide.run(services)) as task:
        ids = await services.accounts.ids([guide.NAME])
        async with asyncio.timeout(DEADLINE):
            while services.hub.user(ids[guide.NAME]) is None:
                await asyncio.sleep(0)
            for subscriber in list(services.hub.user(ids[guide.NAME]).subscribers):  # type: ignore[union-attr]
                subscriber.close(1)
            await task


@pytest.mark.sqlite
async def test_accounts_alone_have_no_history(tmp_path: Path, environ: dict[str, str], services: Services) -> None:
    with Server(tmp_path, environ=environ) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as visitor:
            assert "demo" not in (await visitor.get("/auth/login")).text
        assert await written(services) == {"users": ["alice", "bob"], "posts": 0, "messages": [0, 0]}


@pytest.mark.sqlite
async def test_nothing_without_demo(tmp_path: Path, environ: dict[str, str], services: Services) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", "--bind", "127.0.0.1:0", cwd=tmp_path, env=environ, stdout=subprocess.PIPE
    )
    async with asyncio.timeout(DEADLINE):
        assert process.stdout is not None
        assert b"Serving" in await process.stdout.readline()
        process.terminate()
        assert await process.wait() == 0
    assert await written(services) == {"users": [], "posts": 0, "messages": []}


def test_texts_fit_and_differ() -> None:
    texts = [*guide.ANSWERS, *(each[-1] for each in history.NEWS)]
    texts += [each[-2] for each in (*history.POSTS, *history.READ, *history.UNREAD)]
    assert max(map(len, texts)) <= 140
    assert len(set(guide.ANSWERS)) == len(guide.ANSWERS)

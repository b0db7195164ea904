"""Export one's data, and delete one's account: its rows go, and the counters of others stay exact."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select

from microblog_rt import messages
from microblog_rt.accounts import export
from microblog_rt.accounts.tokens import reader_of
from microblog_rt.errors import Invalid, NotFound, Refused, SignedOut
from microblog_rt.models import SCOPES, Base, Mailbox, User, Webhook
from microblog_rt.services import Services
from microblog_rt.storage import removal
from microblog_rt.storage.counters import COUNTERS
from tests.command_line import Folder
from tests.conftest import PASSWORD
from tests.http_client import websocket
from tests.server_process import Server
from tests.web.conftest import Browser, Join, text


async def unread(services: Services) -> dict[str, tuple[int, ...]]:
    """The counters of each user: messages, mentions, posts. Each equals what it counts."""
    statement = select(User.username, *[each.column for each in COUNTERS], *[each.unread() for each in COUNTERS])
    async with services.storage.reading() as reading:
        rows = (await reading.execute(statement.select_from(Mailbox).join(User, User.id == Mailbox.user_id))).all()
    counters = {name: tuple(values[: len(COUNTERS)]) for name, *values in rows}
    assert counters == {name: tuple(values[len(COUNTERS) :]) for name, *values in rows}
    return counters


async def rows_of(services: Services, user_id: int) -> dict[str, int]:
    """The number of rows with that user's id, by column; without the columns that have none."""
    columns = [Webhook.__table__.c.user_id, User.__table__.c.id, *columns_of_users()]
    found = {}
    async with services.storage.reading() as reading:
        for column in columns:
            count = select(func.count()).select_from(column.table).where(column == user_id)
            found[f"{column.table.name}.{column.name}"] = (await reading.execute(count)).scalar_one()
    return {name: count for name, count in found.items() if count}


def columns_of_users() -> list[Any]:
    """The columns with a foreign key to the user."""
    keys = [key for table in Base.metadata.tables.values() for key in table.foreign_keys]
    return [key.parent for key in keys if key.column is User.__table__.c.id]


async def exchange(services: Services, susan: User, john: User) -> None:
    for number in range(3):
        await services.messages.send_message(susan.id, john.id, f"to john {number}")
        await services.messages.send_message(john.id, susan.id, f"to susan {number}")
    await services.messages.send_message(john.id, john.id, "to myself")
    await services.messages.mark_read(john.id, last=0)


async def publish(services: Services, *users: User) -> None:
    """Each user follows the others, posts to all of them and replies to the first post of each; all is delivered."""
    for follower in users:
        for followed in users:
            if follower is not followed:
                await services.posts.follow(follower.id, followed)
    names = " ".join(f"@{each.username}" for each in users)
    for number in range(2):
        for author in users:
            await services.posts.post(author.id, f"{author.username} {number} for {names}")
    for post in (await services.posts.explore(100)).rows:
        if " 0 " in post.body:
            for author in users:
                await services.posts.post(author.id, f"{author.username} to {post.body[:7]}", reply_to_id=post.id)
    await services.deliveries.deliver_all()


async def delete(browser: Browser, password: str = PASSWORD) -> Any:
    return await browser.post("/account/delete", old_password=password)


async def test_deleted_account_leaves_nothing_behind(join: Join, services: Services) -> None:
    browser, john_browser = await join("susan"), await join("john")
    susan, john = await services.accounts.known("susan"), await services.accounts.known("john")
    token = await services.tokens.add(susan, "script", SCOPES)
    await exchange(services, susan, john)
    eve = await services.accounts.register("eve", PASSWORD)
    await services.messages.send_message(eve.id, john.id, "from eve")
    await services.notifications.add_notification(susan.id, "ci", {"state": "passed"})
    await publish(services, susan, john, eve)
    assert set(await rows_of(services, susan.id)) >= {"mention.recipient_id", "follow.follower_id", "post.user_id"}
    assert len(await rows_of(services, susan.id)) >= 10
    assert await unread(services) == {"susan": (3, 6, 10), "john": (4, 6, 10), "eve": (0, 6, 10)}
    assert "susan 1 for" in await text(await john_browser.get("/"))
    answer = await delete(browser)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "Your account, your posts and your messages have been deleted." in await text(await browser.get("/"))
    assert await rows_of(services, susan.id) == {}
    assert await unread(services) == {"john": (1, 3, 5), "eve": (0, 3, 5)}
    assert await services.tokens.visit(reader_of(token)) is None
    assert "to john 0" not in await text(await john_browser.get("/messages"))
    for path in ("/", "/explore", "/mentions", "/people", "/user/eve"):
        page = await text(await john_browser.get(path))
        assert "susan 0 for" not in page
        assert "susan 1 for" not in page
        assert "susan to " not in page
        assert "/user/susan" not in page
    assert await services.posts.profile(john.id, eve.id) == (1, 1, 5, True, True)
    replies = [each for each in (await services.posts.explore(100)).rows if "to susan 0" in each.body]
    assert [(each.body, each.reply_to_id) for each in replies] == [("eve to susan 0", None), ("john to susan 0", None)]
    assert (await john_browser.get("/user/susan")).status_code == 404
    refused = await browser.post("/auth/login", username="susan", password=PASSWORD)
    assert "Wrong username or password" in await text(refused)
    again = await join("susan")
    assert "No messages yet" in await text(await again.get("/messages"))


async def test_deleting_needs_the_current_password(join: Join, services: Services) -> None:
    browser = await join("susan")
    answer = await delete(browser, "wrong")
    assert answer.status_code == 422
    assert "This is not your current password." in await text(answer)
    assert (await browser.get("/account")).status_code == 200
    assert not (await services.accounts.known("susan")).disabled


async def test_deleting_needs_a_session(stranger: Browser) -> None:
    for path in ("/account/delete", "/account/export"):
        assert (await stranger.get(path, headers={"Accept": "text/html"})).status_code == 303
        assert (await stranger.get(path, headers={"Accept": "application/json"})).status_code == 401


@pytest.mark.parametrize("at_once", [1, 3, 500])
async def test_each_transaction_of_a_deletion_is_small_and_exact(
    services: Services, susan: User, john: User, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """A deletion that ends after any of its transactions leaves every counter exact, and another completes it."""
    monkeypatch.setattr(removal, "AT_ONCE", at_once)
    monkeypatch.setattr(messages, "WITHDRAWN_AT_ONCE", at_once)
    monkeypatch.setattr(services.deliveries, "request", lambda *_: None)  # no transactions but those of this test
    eve = await services.accounts.register("eve", PASSWORD)
    await exchange(services, susan, john)
    await publish(services, susan, john, eve)
    write, left = services.storage.write, 0

    async def write_and_count(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        if not left:
            raise ZeroDivisionError
        left -= 1
        result = await write(*arguments, **options)
        await unread(services)
        return result

    monkeypatch.setattr(services.storage, "write", write_and_count)
    with changed_rows(services) as changed:
        for interrupted_after in itertools.count(1):
            left = interrupted_after
            with contextlib.suppress(ZeroDivisionError):
                await services.removal.delete("susan")
                break
            assert (await services.accounts.known("susan")).disabled
    assert interrupted_after >= 5
    assert (max(changed) == at_once) if at_once < 5 else (5 < max(changed) < at_once)
    assert await rows_of(services, susan.id) == {}
    assert await unread(services) == {"john": (0, 3, 5), "eve": (0, 3, 5)}
    left = 1
    with pytest.raises(NotFound):
        await services.removal.delete("susan")


@contextlib.contextmanager
def changed_rows(services: Services) -> Iterator[list[int]]:
    """The number of rows that each transaction has updated or deleted in tables of which a user may have many."""
    changed, engine = [0], services.storage.engines[1]

    def executed(_connection: Any, cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: bool) -> None:
        changes = context.isupdate or context.isdelete
        if changes and context.compiled.statement.table.name in ("message", "follow", "mention", "post"):
            changed[-1] += cursor.rowcount

    def committed(_connection: Any) -> None:
        changed.append(0)

    event.listen(engine, "after_cursor_execute", executed)
    event.listen(engine, "commit", committed)
    try:
        yield changed
    finally:
        event.remove(engine, "after_cursor_execute", executed)
        event.remove(engine, "commit", committed)


async def test_sends_during_a_deletion_leave_no_rows(join: Join, services: Services) -> None:
    await join("susan")
    await join("john")
    susan, john = await services.accounts.known("susan"), await services.accounts.known("john")

    async def send(number: int) -> None:
        for sender, recipient in ((susan, john), (john, susan), (john, john)):
            try:
                await services.messages.send_message(sender.id, recipient.id, f"text {number}")
            except Refused:
                assert sender is susan or recipient is susan

    sends = [send(number) for number in range(8)]
    await asyncio.gather(*sends[:4], services.removal.delete("susan"), services.removal.delete("susan"), *sends[4:])
    assert await rows_of(services, susan.id) == {}
    assert set(await unread(services)) == {"john"}


async def test_posts_and_follows_during_a_deletion_leave_no_rows(services: Services, susan: User, john: User) -> None:
    eve = await services.accounts.register("eve", PASSWORD)
    await publish(services, susan, john, eve)
    (question, *_), _, _ = await services.posts.by_author(susan.id, 1)
    refusals: list[Refused] = []

    async def act(number: int) -> None:
        for work in (
            services.posts.post(susan.id, f"from susan {number} to @john"),
            services.posts.post(john.id, f"from john {number} to @susan and @eve"),
            services.posts.unfollow(john.id, susan),
            services.posts.follow(john.id, susan),
            services.posts.post(eve.id, f"reply {number}", reply_to_id=question.id),
            services.posts.unfollow(susan.id, eve),
            services.posts.follow(susan.id, eve),
            services.deliveries.deliver_all(),
        ):
            try:
                await work
            except Refused as error:
                refusals.append(error)

    acts = [act(number) for number in range(6)]
    await asyncio.gather(*acts[:3], services.removal.delete("susan"), services.removal.delete("susan"), *acts[3:])
    assert await rows_of(services, susan.id) == {}
    assert set(await unread(services)) == {"john", "eve"}
    await act(6)
    assert [each.reason for each in refusals[-4:]] == ["signed_out", "unknown_user", "unknown_post", "signed_out"]
    reasons = {"signed_out", "unknown_user", "unknown_post", "account_disabled"}
    assert {each.reason for each in refusals} <= reasons
    await services.deliveries.deliver_all()
    await unread(services)


async def test_disabled_account_posts_and_follows_nothing_and_gets_no_followers(
    services: Services, susan: User, john: User
) -> None:
    await services.accounts.disable("susan")
    with pytest.raises(SignedOut):
        await services.posts.post(susan.id, "from susan")
    with pytest.raises(SignedOut):
        await services.posts.follow(susan.id, john)
    with pytest.raises(Invalid, match="account_disabled"):
        await services.posts.follow(john.id, susan)
    await services.posts.post(john.id, "to @susan")
    assert await unread(services) == {"susan": (0, 0, 0), "john": (0, 0, 0)}
    assert set(await rows_of(services, susan.id)) == {"user.id", "mailbox.user_id"}


async def test_posts_that_are_counted_are_not_deleted(services: Services, susan: User, john: User) -> None:
    """Follows and mentions that were committed after the deletion has looked for them are deleted first."""
    await services.posts.follow(john.id, susan)
    await services.posts.post(susan.id, "to @john")
    assert not await services.storage.write(partial(removal.delete_posts, user_id=susan.id))
    await services.posts.unfollow(john.id, susan)
    assert not await services.storage.write(partial(removal.delete_posts, user_id=susan.id))
    assert "post.user_id" in await rows_of(services, susan.id)
    await services.removal.delete("susan")
    assert await unread(services) == {"john": (0, 0, 0)}


def test_every_column_that_names_a_user_is_deleted() -> None:
    """A new table with a foreign key to the user must be added to ``storage/removal.py``."""
    deleted = {getattr(each.class_.__table__.c, each.key) for each in (*removal.OWN, *removal.SHARED)}
    assert set(columns_of_users()) | {Webhook.__table__.c.user_id} == deleted


async def test_export_has_everything_and_no_secret(
    join: Join, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "AT_ONCE", 2)
    browser = await join("susan")
    await join("john")
    susan, john = await services.accounts.known("susan"), await services.accounts.known("john")
    token = await services.tokens.add(susan, "script", ["messages:read"])
    await exchange(services, susan, john)
    await services.messages.send_message(john.id, susan.id, '\u5bc6\u78bc "quoted"')
    eve = await services.accounts.register("eve", PASSWORD)
    await services.accounts.edit_profile(susan.id, "Susan \u738b", "About me")
    await publish(services, susan, john, eve)
    answer = await browser.get("/account/export")
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="microblog.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    page = await text(answer)
    exported = json.loads(page)
    account = [exported["account"][name] for name in ("username", "display_name", "about_me")]
    assert account == ["susan", "Susan \u738b", "About me"]
    posts = {each["post"]: each for each in exported["posts"]}
    own = (await services.posts.by_author(susan.id, 100)).rows
    assert [(each.id, each.reply_to_id) for each in own][::-1] == [(id, posts[id]["reply_to"]) for id in posts]
    assert {each["body"] for each in posts.values()} >= {"susan 1 for @susan @john @eve", "susan to susan 0"}
    mentions = [(each["author"], each["body"]) for each in exported["mentions"]]
    assert sorted(mentions[:4]) == sorted(
        (name, f"{name} {number} for @susan @john @eve") for name in ("john", "eve") for number in range(2)
    )
    assert sorted(mentions[4:]) == [("eve", "eve to susan 0"), ("john", "john to susan 0")]
    assert [each["username"] for each in exported["follows"]] == ["john", "eve"]
    bodies = [(each["author"], each["body"]) for each in exported["messages_received"]]
    assert bodies == [*(("john", f"to susan {number}") for number in range(3)), ("john", '\u5bc6\u78bc "quoted"')]
    assert [(each["recipient"], each["body"]) for each in exported["messages_sent"]] == [
        ("john", f"to john {number}") for number in range(3)
    ]
    assert [each["name"] for each in exported["access_tokens"]] == ["script"]
    assert [(each["name"], each["data"]) for each in exported["notifications"]] == [
        ("unread_message_count", 4),
        ("unread_mention_count", 6),
        ("unread_post_count", 10),
    ]
    assert len(exported["sessions"]) == 1
    for secret in (susan.password_hash, token, reader_of(token).token_hash, "password", "to myself"):
        assert secret not in page


async def test_export_of_a_new_account_is_empty(join: Join) -> None:
    exported = json.loads(await text(await (await join("susan")).get("/account/export")))
    assert {name: rows for name, rows in exported.items() if isinstance(rows, list) and name != "sessions"} == {
        "access_tokens": [],
        "notifications": [],
        "messages_received": [],
        "messages_sent": [],
        "posts": [],
        "mentions": [],
        "follows": [],
    }


async def test_open_tabs_of_a_deleted_account_close_with_4401(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        bob, alice = server.person("bob"), server.person("alice")
        await asyncio.to_thread(bob.send, "alice", "hello")
        tabs = [await websocket(server.url, bob.cookie(), "/notifications?since=0") for _ in range(2)]
        answer = await asyncio.to_thread(bob.post, "/account/delete", old_password=server.password)
        assert answer.status_code == 303
        for tab in tabs:
            async with asyncio.timeout(60):
                await tab.wait_closed()
            assert tab.close_code == 4401
        (notification,) = (await asyncio.to_thread(alice.client.get, "/notifications?since=0")).json()
        assert (notification["name"], notification["data"]) == ("unread_message_count", 0)
        deleted = await asyncio.to_thread(Folder(tmp_path).run, "user", "delete", "alice", "--yes")
        assert deleted.stdout == "alice is deleted.\n"
        assert (await asyncio.to_thread(alice.client.get, "/notifications")).status_code == 401
        for person in (bob, alice):
            person.close()
    assert "no user called alice" in Folder(tmp_path).refused("user", "delete", "alice", "--yes")

"""Export one's data, and delete one's account: its rows go, and the counters of others stay exact."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from microblog_rt.accounts import export
from microblog_rt.accounts.tokens import reader_of
from microblog_rt.errors import NotFound, Refused
from microblog_rt.models import SCOPES, Base, Mailbox, Message, User
from microblog_rt.services import Services
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.storage.removal import OWN
from tests.command_line import Folder
from tests.conftest import PASSWORD
from tests.http_client import websocket
from tests.server_process import Server
from tests.web.conftest import Browser, Join, text


async def unread(services: Services) -> dict[str, tuple[int, int]]:
    """The counter of each user, and what it counts."""
    counted = (
        select(func.count())
        .select_from(Message)
        .where(UNREAD_MESSAGES.is_unread, Message.recipient_id == Mailbox.user_id)
        .correlate(Mailbox)
        .scalar_subquery()
    )
    statement = select(User.username, Mailbox.unread_message_count, counted).join(Mailbox, Mailbox.user_id == User.id)
    async with services.storage.reading() as reading:
        return {name: (counter, count) for name, counter, count in (await reading.execute(statement)).all()}


async def rows_of(services: Services, user_id: int) -> dict[str, int]:
    """The number of rows with that user's id, by table; without the tables that have none."""
    found = {}
    async with services.storage.reading() as reading:
        for table in Base.metadata.tables.values():
            for column in table.columns:
                if column.name in ("user_id", "sender_id", "recipient_id") or column is User.__table__.c.id:
                    count = select(func.count()).select_from(table).where(column == user_id)
                    found[f"{table.name}.{column.name}"] = (await reading.execute(count)).scalar_one()
    return {name: count for name, count in found.items() if count}


async def exchange(services: Services, susan: User, john: User) -> None:
    for number in range(3):
        await services.messages.send_message(susan.id, john.id, f"to john {number}")
        await services.messages.send_message(john.id, susan.id, f"to susan {number}")
    await services.messages.send_message(john.id, john.id, "to myself")
    await services.messages.mark_read(john.id, last=0)


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
    assert len(await rows_of(services, susan.id)) >= 6
    assert await unread(services) == {"susan": (3, 3), "john": (4, 4), "eve": (0, 0)}
    answer = await delete(browser)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "Your account and your messages have been deleted." in await text(await browser.get("/"))
    assert await rows_of(services, susan.id) == {}
    assert await unread(services) == {"john": (1, 1), "eve": (0, 0)}
    assert await services.tokens.visit(reader_of(token)) is None
    assert "to john 0" not in await text(await john_browser.get("/messages"))
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


async def test_interrupted_deletion_is_completed_by_another(
    join: Join, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await join("susan")
    await join("john")
    susan, john = await services.accounts.known("susan"), await services.accounts.known("john")
    await exchange(services, susan, john)

    async def fails(user_id: int) -> int:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(services.messages, "delete_of", fails)
        with pytest.raises(ZeroDivisionError):
            await services.removal.delete("susan")
    assert (await services.accounts.known("susan")).disabled
    assert await unread(services) == {"susan": (3, 3), "john": (3, 3)}
    await services.removal.delete("susan")
    assert await rows_of(services, susan.id) == {}
    with pytest.raises(NotFound):
        await services.removal.delete("susan")


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
    counters = await unread(services)
    assert set(counters) == {"john"}
    assert counters["john"][0] == counters["john"][1]


def test_every_column_that_names_a_user_is_deleted() -> None:
    """A new table with a foreign key to the user must be added to ``storage/removal.py``, or be deleted before."""
    with_user = {
        f"{table.name}.{key.parent.name}"
        for table in Base.metadata.tables.values()
        for key in table.foreign_keys
        if key.column is User.__table__.c.id
    }
    before = {"message.sender_id", "message.recipient_id"}
    assert with_user - before <= {f"{each.class_.__tablename__}.{each.key}" for each in OWN}


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
    answer = await browser.get("/account/export")
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="microblog.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    page = await text(answer)
    exported = json.loads(page)
    assert exported["account"]["username"] == "susan"
    bodies = [(each["author"], each["body"]) for each in exported["messages_received"]]
    assert bodies == [*(("john", f"to susan {number}") for number in range(3)), ("john", '\u5bc6\u78bc "quoted"')]
    assert [(each["recipient"], each["body"]) for each in exported["messages_sent"]] == [
        ("john", f"to john {number}") for number in range(3)
    ]
    assert [each["name"] for each in exported["access_tokens"]] == ["script"]
    assert [(each["name"], each["data"]) for each in exported["notifications"]] == [("unread_message_count", 4)]
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

"""``db restored``: after a backup is restored, every client gets its state, whichever cursor the client holds."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, select, text

from microblog_rt import mailboxes
from microblog_rt import restored as restoring
from microblog_rt.mailboxes import Change
from microblog_rt.models import Base, User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.restored import restored
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import Transaction
from microblog_rt.storage.counters import COUNTERS
from tests.clients import Client, signed_in
from tests.command_line import Folder
from tests.server_process import Server

AHEAD = 60.0


class Backup:
    """The rows of all tables, which ``restore`` writes back."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._rows: list[tuple[Table, list[dict[str, Any]]]] = []

    async def make(self) -> "Backup":
        async with self._services.storage.reading() as reading:
            for table in Base.metadata.sorted_tables:
                rows = await reading.execute(select(table))
                self._rows.append((table, [dict(each) for each in rows.mappings()]))
        return self

    async def restore(self) -> None:
        def work(tx: Transaction) -> None:
            for table, _ in reversed(self._rows):
                tx.execute(delete(table))
            for table, rows in self._rows:
                if rows:
                    tx.execute(insert(table), rows)

        await self._services.storage.write(work)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Services]:
    services = assemble(settings)
    try:
        yield services
    finally:
        await services.close()


async def unread(services: Services, user_id: int) -> tuple[int, int]:
    """The stored counter, and the number of messages after the mark."""
    async with services.storage.reading() as reading:
        mailbox = f"FROM mailbox WHERE user_id = {user_id}"
        stored = (await reading.execute(text(f"SELECT unread_message_count {mailbox}"))).scalar_one()
        mark = f"(SELECT last_message_read_time {mailbox})"
        counted = f"SELECT count(*) FROM message WHERE recipient_id = {user_id} AND timestamp > {mark}"
        return stored, (await reading.execute(text(counted))).scalar_one()


async def stamps(services: Services) -> dict[tuple[int, str], int]:
    async with services.storage.reading() as reading:
        rows = await reading.execute(text("SELECT user_id, name, timestamp FROM notification ORDER BY timestamp"))
        return {(row.user_id, row.name): row.timestamp for row in rows}


async def clocks(services: Services) -> list[int]:
    async with services.storage.reading() as reading:
        return list((await reading.execute(text("SELECT clock FROM mailbox ORDER BY user_id"))).scalars())


class Before:
    """Susan's client, with a message and a value of ``shade`` that are newer than the backup."""

    def __init__(self, client: Client, john: User) -> None:
        self.client = client
        self.john = john

    def at(self, services: Services) -> Client:
        """The same client, connected to ``services``."""
        client = Client(services, self.client.reader, self.client.since)
        client.state = dict(self.client.state)
        return client


@pytest.fixture
async def before(settings: Settings) -> Before:
    async with opened(settings) as services:
        susan = await services.accounts.register("susan", "correct horse")
        john = await services.accounts.register("john", "correct horse")
        await services.notifications.add_notification(susan.id, "shade", "green")
        await services.messages.send_message(john.id, susan.id, "in the backup")
        client = Client(services, await signed_in(services, susan))
        backup = await Backup(services).make()
        await services.notifications.add_notification(susan.id, "shade", "blue")
        await services.messages.send_message(john.id, susan.id, "after it")
        await client.poll()
        await backup.restore()
    assert client.state == {"unread_message_count": 2, "shade": "blue"}
    return Before(client, john)


NOTHING_UNREAD = {each.name: 0 for each in COUNTERS}
RESTORED = NOTHING_UNREAD | {"unread_message_count": 1, "shade": "green"}


async def test_without_the_command_clients_keep_lost_state(settings: Settings, before: Before) -> None:
    """Once the clock has passed its cursor, a client receives only newer notifications."""
    async with opened(settings) as services:
        await services.notifications.add_notification(before.client.reader.user_id, "other", 1)
        client = before.at(services)
        await client.poll()
        assert client.state == {"unread_message_count": 2, "shade": "blue", "other": 1}


async def test_client_newer_than_the_backup_gets_the_restored_state(settings: Settings, before: Before) -> None:
    async with opened(settings) as services:
        assert await restored(services.storage, services.mailboxes, AHEAD) == 2
        client = before.at(services)
        await client.poll()
        assert client.state == RESTORED
        assert await unread(services, client.reader.user_id) == (1, 1)
        await services.messages.send_message(before.john.id, client.reader.user_id, "after the restore")
        await client.poll()
        assert client.state["unread_message_count"] == 2


async def test_client_with_a_future_cursor_gets_the_restored_state(settings: Settings, before: Before) -> None:
    """Also once the clock has passed that cursor: the client gets all names, not only newer ones."""
    async with opened(settings) as services:
        await restored(services.storage, services.mailboxes, AHEAD)
        client = before.at(services)
        client.since = time.time_ns() // 1000 + int(AHEAD / 2 * MICROSECONDS)
        await services.messages.send_message(before.john.id, client.reader.user_id, "the clock moves on")
        await client.poll()
        assert client.state == RESTORED | {"unread_message_count": 2}


async def test_count_without_notification_in_the_backup_is_delivered(settings: Settings) -> None:
    async with opened(settings) as services:
        susan = await services.accounts.register("susan", "correct horse")
        reader = await signed_in(services, susan)
        backup = await Backup(services).make()
        await services.messages.send_message(susan.id, susan.id, "after it")
        client = Client(services, reader)
        await client.poll()
        await backup.restore()
    async with opened(settings) as services:
        await restored(services.storage, services.mailboxes, AHEAD)
        client = Client(services, reader, client.since)
        await client.poll()
        assert client.state == NOTHING_UNREAD


async def test_restamped_notifications_keep_their_order(settings: Settings, before: Before) -> None:
    async with opened(settings) as services:
        was = await stamps(services)
        for _ in range(2):
            await restored(services.storage, services.mailboxes, AHEAD)
            now = await stamps(services)
            of_susan = [key for key in now if key[0] == before.client.reader.user_id]
            assert [key for key in of_susan if key in was] == [key for key in was if key in of_susan]
            assert len({now[key] for key in of_susan}) == len(of_susan) == len(RESTORED)
            assert max(now.values()) <= max(await clocks(services))


async def test_second_run_changes_no_state(settings: Settings, before: Before) -> None:
    async with opened(settings) as services:
        client = before.at(services)
        for _ in range(2):
            was = await clocks(services)
            await restored(services.storage, services.mailboxes, AHEAD)
            assert all(now > then for now, then in zip(await clocks(services), was, strict=True))
            await client.poll()
            assert client.state == RESTORED


async def test_wrong_count_is_repaired(settings: Settings, before: Before) -> None:
    async with opened(settings) as services:
        await services.storage.write(lambda tx: tx.execute(text("UPDATE mailbox SET unread_message_count = 7")))
        await restored(services.storage, services.mailboxes, AHEAD)
        client = before.at(services)
        await client.poll()
        assert client.state == RESTORED
        assert await unread(services, client.reader.user_id) == (1, 1)


class Killed(BaseException):
    """Ends the run between two users."""


async def test_interrupted_run_can_be_repeated(
    settings: Settings, before: Before, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    class Once(Change):
        def restamp(self, user_id: int) -> None:
            if calls:
                raise Killed
            calls.append(user_id)
            super().restamp(user_id)

    async with opened(settings) as services:
        was = await stamps(services)
        with monkeypatch.context() as patch:
            patch.setattr(mailboxes, "Change", Once)
            patch.setattr(restoring, "USERS_AT_ONCE", 1)
            with pytest.raises(Killed):
                await restored(services.storage, services.mailboxes, AHEAD)
        partial = await stamps(services)
        changed = {user_id for user_id, name in was if was[user_id, name] != partial[user_id, name]}
        assert changed == {calls[0]}
        await restored(services.storage, services.mailboxes, AHEAD)
        complete = await stamps(services)
        assert all(complete[key] > partial[key] for key in partial)
        client = before.at(services)
        await client.poll()
        assert client.state == RESTORED


async def test_open_tabs_get_the_restored_state_from_the_sweep(settings: Settings, before: Before) -> None:
    async with opened(settings) as services, opened(settings) as other:
        client = Client(services, before.client.reader)
        await client.connect()
        client.state = {}
        await restored(other.storage, other.mailboxes, AHEAD)
        await services.feed.sweep_once()
        await client.until(lambda: client.state == RESTORED)
        await client.disconnect()


def test_command_reports_the_number_of_users(tmp_path: Path) -> None:
    with Server(tmp_path, environ={"MICROBLOG_SWEEP": "3600"}) as server:
        bob = server.person("bob")
        assert bob.client.get("/notifications").json() == []
        result = Folder(tmp_path).run("db", "restored")
        assert (result.returncode, result.stdout) == (0, "Restamped the notifications of 2 users.\n")
        found = {each["name"]: each["data"] for each in bob.client.get("/notifications").json()}
        assert found == NOTHING_UNREAD
        bob.close()

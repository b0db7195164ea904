"""``/readyz`` reports the current state of the database and of the bus."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

from microblog_rt.app import create_app
from microblog_rt.errors import Unavailable
from microblog_rt.settings import Settings
from microblog_rt.storage import sql_time
from microblog_rt.timeouts import Timeouts
from tests.clients import DEADLINE
from tests.conftest import KEY, PASSWORD
from tests.services import PostgreSQL, Redis

TIMEOUTS = Timeouts(readiness=DEADLINE, broker_retry_max=0.2, heartbeat_interval=0.1, heartbeat_lost=0.5)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as redis:
        yield redis


@asynccontextmanager
async def serving(settings: Settings, timeouts: Timeouts = TIMEOUTS) -> AsyncIterator[Client]:
    async with (app := create_app(settings, timeouts)).test_app():
        yield app.test_client()


async def ready(client: Client) -> tuple[int, Any]:
    answer = await client.get("/readyz")
    return answer.status_code, await answer.get_json()


async def until_bus_is(state: str, client: Client) -> Any:
    """Request ``/readyz`` until the bus has that state; every answer must be 200."""
    async with asyncio.timeout(DEADLINE):
        while True:
            status, report = await ready(client)
            assert (status, report["status"]) == (200, "ready")
            if report["bus"]["state"] == state:
                return report["bus"]
            await asyncio.sleep(0.02)


async def test_memory_bus_is_ready(settings: Settings) -> None:
    async with serving(settings) as client:
        status, report = await ready(client)
        assert (status, report["status"], report["database"]["state"]) == (200, "ready", "connected")
        assert report["bus"] == {"backend": "memory", "state": "single_process", "heard_seconds_ago": None}
        assert 0 <= report["database"]["answered_in_seconds"] < DEADLINE


@pytest.mark.sqlite
async def test_ready_while_redis_is_down(settings: Settings, redis: Redis) -> None:
    async with serving(replace(settings, bus_url=redis.url)) as client:
        connected = await until_bus_is("connected", client)
        assert connected["backend"] == "redis"
        redis.stop()
        await until_bus_is("disconnected", client)
        redis.start()
        assert (await until_bus_is("connected", client))["heard_seconds_ago"] < DEADLINE


@pytest.mark.sqlite
async def test_hanging_redis_is_reported_as_no_heartbeat(settings: Settings, redis: Redis) -> None:
    # The bus does not reconnect for now: while Redis hangs, each heartbeat takes ``broker_answer``.
    async with serving(replace(settings, bus_url=redis.url)) as client:
        await until_bus_is("connected", client)
        redis.pause()
        hanging = await until_bus_is("no_heartbeat", client)
        assert hanging["heard_seconds_ago"] >= 0.5
        redis.resume()
        await until_bus_is("connected", client)


async def test_database_bus_is_reported_as_connected(settings: Settings) -> None:
    url = "sqlite://" if settings.sqlite_file else "postgresql://"
    async with serving(replace(settings, bus_url=url)) as client:
        assert url.startswith((await until_bus_is("connected", client))["backend"])


async def test_not_ready_while_database_is_down(postgresql: PostgreSQL, postgresql_migrated: str) -> None:
    settings = Settings(database_url=postgresql_migrated, bus_url="postgresql://", secret_key="a" * 32)

    async def until_it_is(database: str, bus: str) -> tuple[int, Any]:
        # Two connections: the end of the bus's may be noticed a moment after that of the database's.
        async with asyncio.timeout(DEADLINE):
            while True:
                status, report = await ready(client)
                if (report["database"]["state"], report["bus"]["state"]) == (database, bus):
                    return status, report["status"]
                await asyncio.sleep(0.02)

    async with serving(settings) as client:
        await until_bus_is("connected", client)
        postgresql.stop()
        try:
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert await until_it_is("disconnected", "disconnected") == (503, "no database")
        finally:
            postgresql.start()
        assert await until_it_is("connected", "connected") == (200, "ready")


async def test_not_ready_while_database_is_read_only(postgresql: PostgreSQL, postgresql_migrated: str) -> None:
    """Like a standby until it is promoted; the connections are not reopened."""

    def read_only(command: str) -> None:
        postgresql.execute(postgresql.url, command)
        postgresql.execute(postgresql.url, "SELECT pg_reload_conf()")

    async def until_it_is(state: str, client: Client) -> tuple[int, Any]:
        async with asyncio.timeout(DEADLINE):
            while True:
                status, report = await ready(client)
                if report["database"]["state"] == state:
                    return status, report["status"]
                await asyncio.sleep(0.02)

    async with serving(Settings(database_url=postgresql_migrated, secret_key="a" * 32)) as client:
        assert await until_it_is("connected", client) == (200, "ready")
        read_only("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            assert await until_it_is("read-only", client) == (503, "database is read-only")
        finally:
            read_only("ALTER SYSTEM RESET default_transaction_read_only")
        assert await until_it_is("connected", client) == (200, "ready")


@pytest.mark.sqlite
async def test_every_method_gets_the_same_answer(settings: Settings) -> None:
    """HAProxy asks by OPTIONS."""
    async with (app := create_app(settings, TIMEOUTS)).test_app():
        client = app.test_client()
        for closing, status in ((False, 200), (True, 503)):
            app.extensions["services"].hub.closing = closing
            for method in ("get", "head", "options"):
                answer = await getattr(client, method)("/readyz")
                assert (answer.status_code, method) == (status, method)
            for method in ("post", "put", "delete", "patch", "trace"):
                answer = await getattr(client, method)("/readyz")
                assert answer.status_code == 405


async def test_clocks_that_differ_are_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On SQLite there is one clock."""
    caplog.set_level("INFO", "microblog_rt")
    now, offset = sql_time.now, 0
    monkeypatch.setattr(sql_time, "now", lambda: now() - offset)
    async with serving(settings) as client:
        for seconds, differs in ((0, False), (3600, True), (3600, True), (-86400, True), (0, False), (0, False)):
            offset = seconds * 1_000_000
            status, report = await ready(client)
            assert (status, report["status"]) == (200, "ready")
            on_postgresql = settings.sqlite_file is None
            assert ("warning" in report) == (differs and on_postgresql)
            assert abs(report["database"]["clock_ahead_in_seconds"] - seconds * on_postgresql) < 5
    clock = [each.partition(" of ")[0] for each in caplog.messages if each.startswith("clock")]
    assert clock == (["clock", "clocks"] if on_postgresql else [])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; only root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def small_settings(small_disk: Path, sqlite_migrated: Path) -> Settings:
    shutil.copyfile(sqlite_migrated, small_disk / "test.db")
    return Settings(database_url=f"sqlite+aiosqlite:///{small_disk}/test.db", secret_key=KEY)


PROBED_EACH_TIME = replace(TIMEOUTS, write_probe=0)


async def test_full_disk_is_not_ready(small_settings: Settings, small_disk: Path) -> None:
    async with serving(small_settings, PROBED_EACH_TIME) as client:
        assert (await ready(client))[0] == 200
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        status, report = await ready(client)
        assert (status, report["status"], report["database"]) == (503, "no space for the database", {"state": "full"})
        filler.unlink()
        assert (await ready(client))[0] == 200


async def test_read_only_file_system_is_not_ready(small_settings: Settings, small_disk: Path) -> None:
    async with serving(small_settings) as client:
        assert (await ready(client))[0] == 200
    remounting = await asyncio.create_subprocess_exec("mount", "-o", "remount,ro", small_disk)
    assert await remounting.wait() == 0
    async with serving(small_settings) as client:
        assert (await ready(client))[0] == 503


@pytest.mark.sqlite
async def test_lock_held_by_another_process_is_not_ready(settings: Settings) -> None:
    async with serving(settings, replace(PROBED_EACH_TIME, sqlite_busy=0.1)) as client:
        with closing(sqlite3.connect(str(settings.sqlite_file), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            status, report = await ready(client)
            assert (status, report["status"]) == (503, "database is locked")
        assert (await ready(client))[0] == 200


@pytest.mark.sqlite
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
async def test_deleted_or_replaced_file_takes_no_writes(
    settings: Settings, sqlite_migrated: Path, replaced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What is written to the open file would be lost, and what the server creates would hide the mistake."""
    assert settings.sqlite_file is not None
    moved = settings.sqlite_file.with_name("moved.db")
    async with (app := create_app(settings)).test_app():
        client, services = app.test_client(), app.extensions["services"]
        susan = await services.accounts.register("susan", PASSWORD)
        settings.sqlite_file.rename(moved)
        if replaced:
            shutil.copyfile(sqlite_migrated, settings.sqlite_file)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await services.messages.send_message(susan.id, susan.id, "hello")
        status, report = await ready(client)
        assert (status, report["status"]) == (503, "database file was replaced or deleted")
        assert settings.sqlite_file.exists() == replaced
        assert [each for each in caplog.messages if "replaced or deleted" in each] == [
            "database unavailable for writes: the database file was replaced or deleted; restart the server"
        ]
        moved.rename(settings.sqlite_file)
        assert await services.messages.send_message(susan.id, susan.id, "hello")
        assert (await ready(client))[0] == 200


async def test_missing_file_is_not_created(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite+aiosqlite:///{tmp_path}/test.db", secret_key=KEY)
    async with serving(settings) as client:
        assert (await ready(client))[0] == 503
        assert (await client.get("/notifications")).status_code == 401
    assert os.listdir(tmp_path) == []

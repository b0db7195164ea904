"""``/readyz`` reports the current state of the database and of the bus."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

from microblog_rt.app import create_app
from microblog_rt.settings import Settings
from microblog_rt.timeouts import Timeouts
from tests.clients import DEADLINE
from tests.services import PostgreSQL, Redis

TIMEOUTS = Timeouts(readiness=DEADLINE, broker_retry_max=0.2, heartbeat_interval=0.1, heartbeat_lost=0.5)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as redis:
        yield redis


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Client]:
    async with (app := create_app(settings, TIMEOUTS)).test_app():
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

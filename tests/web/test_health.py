"""``/readyz`` tells the state of the database and of the bus as they were last heard, not as they were set up."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

from microblog_rt import bus
from microblog_rt.app import create_app
from microblog_rt.bus import heartbeat, outage
from microblog_rt.settings import Settings
from microblog_rt.web import health
from tests.clients import DEADLINE
from tests.services import PostgreSQL, Redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as redis:
        yield redis


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "DATABASE_SECONDS", DEADLINE)
    monkeypatch.setattr(outage, "LONGEST", 0.2)
    monkeypatch.setattr(heartbeat, "BEAT", 0.1)
    monkeypatch.setattr(heartbeat, "DEAF", 0.5)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Client]:
    async with (app := create_app(settings)).test_app():
        yield app.test_client()


async def ready(client: Client) -> tuple[int, Any]:
    answer = await client.get("/readyz")
    return answer.status_code, await answer.get_json()


async def until_bus_is(state: str, client: Client) -> Any:
    """Ask until it is; every answer meanwhile is a 200."""
    async with asyncio.timeout(DEADLINE):
        while True:
            status, told = await ready(client)
            assert (status, told["status"]) == (200, "ready")
            if told["bus"]["state"] == state:
                return told["bus"]
            await asyncio.sleep(0.02)


async def test_memory_bus_is_ready(settings: Settings) -> None:
    async with serving(settings) as client:
        status, told = await ready(client)
        assert (status, told["status"], told["database"]["state"]) == (200, "ready", "heard")
        assert told["bus"] == {"backend": "memory", "state": "alone", "heard_seconds_ago": None}
        assert 0 <= told["database"]["answered_in_seconds"] < DEADLINE


@pytest.mark.sqlite
async def test_ready_while_redis_is_down(settings: Settings, redis: Redis) -> None:
    async with serving(replace(settings, bus_url=redis.url)) as client:
        heard = await until_bus_is("heard", client)
        assert heard["backend"] == "redis"
        redis.stop()
        await until_bus_is("away", client)
        redis.start()
        assert (await until_bus_is("heard", client))["heard_seconds_ago"] < DEADLINE


@pytest.mark.sqlite
async def test_silent_bus_connection_is_not_reported_as_heard(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(replace(settings, bus_url=redis.url)) as client:
        await until_bus_is("heard", client)
        monkeypatch.setattr(heartbeat, "DEAF", 60.0)
        monkeypatch.setattr(bus.base, "DEAF", 0.5)
        redis.pause()
        deaf = await until_bus_is("deaf", client)
        assert deaf["heard_seconds_ago"] >= 0.5
        redis.resume()
        await until_bus_is("heard", client)


async def test_database_bus_is_reported_as_heard(settings: Settings) -> None:
    url = "sqlite://" if settings.sqlite_file else "postgresql://"
    async with serving(replace(settings, bus_url=url)) as client:
        assert url.startswith((await until_bus_is("heard", client))["backend"])


async def test_not_ready_while_database_is_down(postgresql: PostgreSQL, postgresql_migrated: str) -> None:
    settings = Settings(database_url=postgresql_migrated, bus_url="postgresql://", secret_key="a" * 32)
    async with serving(settings) as client:
        await until_bus_is("heard", client)
        postgresql.stop()
        try:
            answer = await client.get("/readyz")
            told = await answer.get_json()
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert (told["status"], told["database"], told["bus"]["state"]) == (
                "no database",
                {"state": "away"},
                "away",
            )
        finally:
            postgresql.start()
        await until_bus_is("heard", client)


async def test_not_ready_while_database_is_read_only(postgresql: PostgreSQL, postgresql_migrated: str) -> None:
    """As a standby is, until it is promoted: the same connections tell both."""

    def read_only(command: str) -> None:
        postgresql.execute(postgresql.url, command)
        postgresql.execute(postgresql.url, "SELECT pg_reload_conf()")

    async def until_it_is(state: str, client: Client) -> tuple[int, Any]:
        async with asyncio.timeout(DEADLINE):
            while True:
                status, told = await ready(client)
                if told["database"]["state"] == state:
                    return status, told["status"]
                await asyncio.sleep(0.02)

    async with serving(Settings(database_url=postgresql_migrated, secret_key="a" * 32)) as client:
        assert await until_it_is("heard", client) == (200, "ready")
        read_only("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            assert await until_it_is("read-only", client) == (503, "database is read-only")
        finally:
            read_only("ALTER SYSTEM RESET default_transaction_read_only")
        assert await until_it_is("heard", client) == (200, "ready")

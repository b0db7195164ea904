"""Real brokers, and a check that no test leaves a task behind."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis as RawClient

from tests.buses import CapturedLog, captured_log
from tests.services import Redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as redis:
        yield redis


@pytest.fixture
async def raw(redis: Redis) -> AsyncIterator[RawClient]:
    """A client of Redis that does not use the bus."""
    client = RawClient.from_url(redis.url)
    yield client
    await client.aclose()


@pytest.fixture(autouse=True)
async def no_tasks_left(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """All tasks have ended after the test, and asyncio has logged no error."""
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [each for each in caplog.records if each.name == "asyncio" and each.levelno > logging.WARNING] == []


@pytest.fixture
async def log() -> AsyncIterator[CapturedLog]:
    with captured_log() as log:
        yield log

"""Real brokers, and that nothing is left behind."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis as RawClient

from microblog_rt.bus import base, heartbeat, outage, postgresql
from microblog_rt.bus import redis as backend
from tests.buses import Said, noting
from tests.clients import DEADLINE
from tests.services import Redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as redis:
        yield redis


@pytest.fixture
async def raw(redis: Redis) -> AsyncIterator[RawClient]:
    """Redis itself, past the bus."""
    client = RawClient.from_url(redis.url)
    yield client
    await client.aclose()


@pytest.fixture(autouse=True)
async def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """No task goes on after its test, and asyncio has nothing to complain of."""
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [each for each in caplog.records if each.name == "asyncio" and each.levelno > logging.WARNING] == []


@pytest.fixture
async def said() -> AsyncIterator[Said]:
    with noting() as said:
        yield said


WAITS = [(base, "SUBSCRIBED_WITHIN"), (backend, "PATIENCE"), (postgresql, "PATIENCE")]
AS_IT_IS = [getattr(where, name) for where, name in WAITS]


@pytest.fixture(autouse=True)
def patient_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker on a busy machine is waited for: what gives it up, or goes on without it, says so."""
    for where, name in WAITS:
        monkeypatch.setattr(where, name, DEADLINE)


@pytest.fixture
def as_it_is(patient_bus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker is waited for no longer than it is in use."""
    for (where, name), seconds in zip(WAITS, AS_IT_IS, strict=True):
        monkeypatch.setattr(where, name, seconds)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away is tried more often."""
    monkeypatch.setattr(outage, "LONGEST", 0.2)


@pytest.fixture
def quick_pulse(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not hear himself knows it sooner."""
    monkeypatch.setattr(heartbeat, "BEAT", 0.1)
    monkeypatch.setattr(heartbeat, "DEAF", 0.5)


Suspicion = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def suspicion(quick_pulse: None) -> Suspicion:
    """For a block, a broker that does not answer is given up sooner; one that is slow before or after it is not."""

    @contextmanager
    def suspicion() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backend, "PATIENCE", 0.5)
            patch.setattr(postgresql, "PATIENCE", 0.5)
            patch.setattr(base, "SUBSCRIBED_WITHIN", 0.1)
            yield

    return suspicion

"""The application as a whole: what runs beside its requests."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from microblog_rt.app import create_app
from microblog_rt.errors import TooMany
from microblog_rt.models import Attempt
from microblog_rt.services import Services
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import limits, sql_time
from microblog_rt.timeouts import Timeouts
from tests.clients import DEADLINE


class Attempts:
    """The stored attempts of a subject."""

    def __init__(self, services: Services) -> None:
        self._storage = services.storage

    async def add(self, subject: str, seconds: int) -> None:
        await self._storage.write(lambda tx: limits.take(tx, subject, Limit(5, seconds)))

    async def count(self, subject: str) -> int:
        query = select(func.count()).select_from(Attempt).where(Attempt.subject == subject)
        async with self._storage.reading() as reading:
            return (await reading.execute(query)).scalar_one()


async def test_expired_rows_are_deleted_while_the_app_runs(settings: Settings) -> None:
    application = create_app(settings, Timeouts(cleanup=0.01))
    attempts = Attempts(application.extensions["services"])
    await attempts.add("long ago", -1)
    await attempts.add("just now", 60)
    async with application.test_app(), asyncio.timeout(DEADLINE):
        while await attempts.count("long ago"):
            await asyncio.sleep(0)
        assert await attempts.count("just now") == 1


@pytest.mark.sqlite
async def test_one_process_at_a_time_deletes_expired_rows(
    settings: Settings, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = sql_time.now()
    monkeypatch.setattr(sql_time, "now", lambda: moment)  # the turn of another process does not end
    attempts = Attempts(services)
    await services.storage.write(lambda tx: limits.take(tx, "cleanup", Limit(1, 1)))
    await attempts.add("long ago", -1)
    application = create_app(settings, Timeouts(cleanup=0.01))
    others: Services = application.extensions["services"]
    refused = asyncio.Event()
    write = others.storage.write

    async def counted(*args: Any) -> Any:
        try:
            return await write(*args)
        except TooMany:
            refused.set()
            raise

    others.storage.write = counted  # type: ignore[method-assign, assignment]
    async with application.test_app(), asyncio.timeout(DEADLINE):
        await refused.wait()
    assert await attempts.count("long ago") == 1

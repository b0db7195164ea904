"""The application as a whole: what runs beside its requests."""

import asyncio

from sqlalchemy import func, select

from microblog_rt.app import create_app
from microblog_rt.models import Attempt
from microblog_rt.services import Services
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import limits
from microblog_rt.timeouts import Timeouts
from tests.clients import DEADLINE


async def test_expired_rows_are_deleted_while_the_app_runs(settings: Settings) -> None:
    application = create_app(settings, Timeouts(cleanup=0.01))
    services: Services = application.extensions["services"]
    await services.storage.write(lambda tx: limits.take(tx, "long ago", Limit(5, -1)))
    await services.storage.write(lambda tx: limits.take(tx, "just now", Limit(5, 60)))

    async def attempts() -> int:
        async with services.storage.reading() as reading:
            return (await reading.execute(select(func.count()).select_from(Attempt))).scalar_one()

    assert await attempts() == 2
    async with application.test_app(), asyncio.timeout(DEADLINE):
        while await attempts() > 1:
            await asyncio.sleep(0)

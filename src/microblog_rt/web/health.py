"""Health, for supervisors and load balancers: alive (``/healthz``), and ready for clients (``/readyz``).

Answered whatever name it is asked by, to anybody, and without a word about anybody.
"""

import asyncio
from http import HTTPStatus

from quart import Blueprint
from quart.typing import ResponseReturnValue

from microblog_rt.errors import Unavailable
from microblog_rt.web.verbs import verbs

blueprint = Blueprint("health", __name__)

PATHS = {"/healthz", "/readyz"}
DATABASE_SECONDS = 2.0


@blueprint.get("/healthz")
async def alive() -> ResponseReturnValue:
    return {"status": "alive"}


@blueprint.get("/readyz")
async def ready() -> ResponseReturnValue:
    if verbs().hub.closing:
        return _not_ready("draining")
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            await verbs().storage.check()
    except (Unavailable, TimeoutError):
        return _not_ready("no database")
    return {"status": "ready"}


def _not_ready(reason: str) -> ResponseReturnValue:
    return {"status": reason}, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"}

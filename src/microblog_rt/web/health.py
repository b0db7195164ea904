"""Liveness (``/healthz``) and readiness (``/readyz``), for supervisors and load balancers.

Both accept any Host and need no session. Readiness queries the database; the state of the bus is reported but does not
affect readiness, since the sweep replaces lost signals.
"""

import time
from http import HTTPStatus
from typing import Any

from quart import Blueprint
from quart.typing import ResponseReturnValue

from microblog_rt.errors import Unavailable
from microblog_rt.web.context import services

blueprint = Blueprint("health", __name__)

PATHS = {"/healthz", "/readyz"}
NOT_READY = {"disconnected": "no database", "read-only": "database is read-only"}


@blueprint.get("/healthz")
async def alive() -> ResponseReturnValue:
    return {"status": "alive"}


@blueprint.get("/readyz")
async def ready() -> ResponseReturnValue:
    if services().hub.closing:
        return _not_ready({"status": "draining"})
    database = await _database()
    found = {"database": database, "bus": _bus()}
    if database["state"] in NOT_READY:
        return _not_ready({"status": NOT_READY[database["state"]], **found})
    return {"status": "ready", **found}


async def _database() -> dict[str, Any]:
    asked = time.monotonic()
    try:
        takes_writes = await services().storage.takes_writes()
    except Unavailable:
        return {"state": "disconnected"}
    state = "connected" if takes_writes else "read-only"
    return {"state": state, "answered_in_seconds": round(time.monotonic() - asked, 4)}


def _bus() -> dict[str, Any]:
    health = services().bus.health()
    ago = health.heard_seconds_ago
    return {
        "backend": health.backend,
        "state": health.state,
        "heard_seconds_ago": None if ago is None else round(ago, 1),
    }


def _not_ready(answer: dict[str, Any]) -> ResponseReturnValue:
    return answer, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"}

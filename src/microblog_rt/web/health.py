"""Liveness (``/healthz``) and readiness (``/readyz``), for supervisors and load balancers.

Both accept any Host and need no session. Every method that is not 405 gets the same answer: HAProxy asks by OPTIONS.
Readiness asks the database whether it takes writes; the state of the bus and a difference between the clocks are
reported but do not affect readiness, since the sweep replaces lost signals, and the database's clock stamps everything.
"""

import time
from http import HTTPStatus
from typing import Any

from quart import Blueprint
from quart.typing import ResponseReturnValue

from microblog_rt.web.context import services

blueprint = Blueprint("health", __name__)

PATHS = {"/healthz", "/readyz"}
METHODS = ["GET", "HEAD", "OPTIONS"]
NOT_READY = {
    "disconnected": "no database",
    "read-only": "database is read-only",
    "full": "no space for the database",
    "locked": "database is locked",
    "replaced": "database file was replaced or deleted",
}


@blueprint.route("/healthz", methods=METHODS, provide_automatic_options=False)
async def alive() -> ResponseReturnValue:
    return {"status": "alive"}


@blueprint.route("/readyz", methods=METHODS, provide_automatic_options=False)
async def ready() -> ResponseReturnValue:
    if services().hub.closing:
        return _not_ready({"status": "draining"})
    asked = time.monotonic()
    health = await services().storage.health()
    database: dict[str, Any] = {"state": health.state}
    found: dict[str, Any] = {"database": database, "bus": _bus()}
    if health.state in NOT_READY:
        return _not_ready({"status": NOT_READY[health.state], **found})
    database["answered_in_seconds"] = round(time.monotonic() - asked, 4)
    database["clock_ahead_in_seconds"] = round(health.clock_ahead, 1)
    if health.clocks_differ:
        found["warning"] = "The clocks of this host and of the database differ. Synchronize both."
    return {"status": "ready", **found}


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

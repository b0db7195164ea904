"""``/metrics``: what is counted, for the operator alone.

With ``MICROBLOG_METRICS_TOKEN`` to whoever bears that token; without it to this machine, asked by one of its own
names and through no proxy. Everybody else is told that there is nothing. Not here: the numbers (``metrics.py``).
"""

from hmac import compare_digest

from quart import Blueprint, Response, current_app, request
from quart.typing import ResponseReturnValue

from microblog_rt import metrics
from microblog_rt.errors import NotFound
from microblog_rt.settings import LOOPBACK
from microblog_rt.web.authentication import address
from microblog_rt.web.hosts import FORWARDED, name_of

blueprint = Blueprint("metrics", __name__)

PATH = "/metrics"
LOOPBACK_HOME = "::/64"  # what ::1 is counted as


@blueprint.get(PATH)
async def numbers() -> ResponseReturnValue:
    token = current_app.config["METRICS_TOKEN"]
    if not (_bears(token) if token else _is_here()):
        raise NotFound
    return Response(metrics.text(), content_type=metrics.CONTENT_TYPE)


def _bears(token: str) -> bool:
    sent = request.headers.get("Authorization", "")
    return compare_digest(sent.encode(), f"Bearer {token}".encode())


def _is_here() -> bool:
    # A proxy on this machine is a neighbour too, and asks for anybody.
    forwarded = any(name in FORWARDED for name, _ in request.scope["headers"])
    return not forwarded and name_of(request.host.lower()) in LOOPBACK and _is_loopback(address())


def _is_loopback(counted: str) -> bool:
    return counted.startswith("127.") or counted == LOOPBACK_HOME

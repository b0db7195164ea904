"""``/metrics``, for the operator.

With ``MICROBLOG_METRICS_TOKEN`` it requires that bearer token; without, a direct request from this machine to a
loopback name, unless a proxy is configured. All other requests get 404.
"""

from hmac import compare_digest

from quart import Blueprint, Response, current_app, request
from quart.typing import ResponseReturnValue

from microblog_rt import metrics
from microblog_rt.errors import NotFound
from microblog_rt.settings import LOOPBACK
from microblog_rt.web.authentication import address
from microblog_rt.web.hosts import FORWARDED, UNVERIFIED, host_name

blueprint = Blueprint("metrics", __name__)

PATH = "/metrics"
LOOPBACK_NETWORK = "::/64"  # the normalized form of ::1


@blueprint.get(PATH)
async def numbers() -> ResponseReturnValue:
    token = current_app.config["METRICS_TOKEN"]
    if not (_has_token(token) if token else _is_local()):
        raise NotFound
    return Response(metrics.text(), content_type=metrics.CONTENT_TYPE)


def _has_token(token: str) -> bool:
    sent = request.headers.get("Authorization", "")
    return compare_digest(sent.encode(), f"Bearer {token}".encode())


def _is_local() -> bool:
    # A proxy on this machine also connects from loopback, and need not send these headers.
    if current_app.config["BEHIND_PROXY"]:
        return False
    forwarded = any(name in FORWARDED for name, _ in request.scope["headers"])
    return (
        not forwarded
        and host_name(request.host.lower()) in LOOPBACK
        and _is_loopback(address().removeprefix(UNVERIFIED))
    )


def _is_loopback(address: str) -> bool:
    address = address.removeprefix(UNVERIFIED)
    return address.startswith("127.") or address == LOOPBACK_NETWORK

"""The ASGI application below ``MICROBLOG_PATH_PREFIX``: the one place where that prefix is removed from a path.

Inside, ``path`` is without the prefix, and ``root_path`` is the prefix. The push edge does the same for what it serves:
``Targets`` in ``push/request.py``.
"""

import logging
from http import HTTPStatus
from typing import Any

from microblog_rt.errors import NotFound
from microblog_rt.web.admission import Admission, Answer, Scope
from microblog_rt.web.hosts import FOR_OPERATORS
from microblog_rt.web.notifications import REJECTION, RESPONSE, Receive, Send, respond

log = logging.getLogger(__name__)


class Mount:
    """Passes requests below ``prefix`` to the application ``inner``. Others are 404, except those of operators."""

    def __init__(self, inner: Any, prefix: str, admission: Admission) -> None:
        self._inner = inner
        self._prefix = prefix
        self._admission = admission
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = None if scope["type"] == "lifespan" else self._inside(scope)
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
        elif path is not None:
            await self._inner({**scope, "path": path, "root_path": self._prefix}, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await respond(send, self._outside(scope), REJECTION)
        elif scope["path"] == self._prefix == _raw_path(scope):
            await respond(send, self._redirect(scope), RESPONSE)
        else:
            await respond(send, self._outside(scope), RESPONSE)

    def _inside(self, scope: Scope) -> str | None:
        """The path without the prefix; None if it is outside."""
        path: str = scope["path"]
        if path in FOR_OPERATORS:  # a load balancer asks each server directly
            return path
        below = self._prefix + "/"
        # As it was sent, too: a proxy decides by the prefix, and need not decode it as this server does.
        return (
            path.removeprefix(self._prefix) if path.startswith(below) and _raw_path(scope).startswith(below) else None
        )

    def _redirect(self, scope: Scope) -> Answer:
        """The answer to a request for the prefix itself, which leads to the home page."""
        query: bytes = scope["query_string"]
        location = self._prefix.encode() + b"/" + (b"?" + query if query else b"")
        headers = [(b"location", location), (b"cache-control", b"no-store")]
        return Answer(HTTPStatus.PERMANENT_REDIRECT, headers, b"")

    def _outside(self, scope: Scope) -> Answer:
        if not self._warned:
            self._warned = True
            log.warning(
                "request for %.200r, which is not below MICROBLOG_PATH_PREFIX=%s: if a proxy removes the prefix, "
                "configure it to pass the path unchanged",
                scope["path"],
                self._prefix,
            )
        return self._admission.refusal(NotFound("outside_prefix", prefix=self._prefix))


def _raw_path(scope: Scope) -> str:
    """The path with its percent-encoding, if the ASGI server tells it."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")

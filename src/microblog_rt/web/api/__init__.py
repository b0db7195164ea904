"""The JSON API below ``/api/v1/``, without Quart: a request in, an answer out, on every kind of server.

body.py        strict JSON, fields, queries, ``Idempotency-Key``
callers.py     who calls, and what they may do
operations.py  what the API does
"""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from microblog_rt import files, security_log
from microblog_rt.errors import MethodNotAllowed, NotFound, Refused, TooLarge
from microblog_rt.models import PUBLISH_NOTIFICATIONS, READ_MESSAGES, SEND_MESSAGES
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.web.admission import Admission, Answer
from microblog_rt.web.api import operations
from microblog_rt.web.api.body import ApiRequest
from microblog_rt.web.api.callers import Caller, Callers
from microblog_rt.web.api.operations import Result
from microblog_rt.web.body_limits import ANONYMOUS_BODY, LONGEST_BODY

__all__ = ["Api", "ApiRequest"]

PREFIX = "/api/v1/"
DOCUMENT = "/openapi.json"
LONGEST_BATCH = 1024 * 1024  # bytes

Operation = Callable[[Services, ApiRequest, Caller, dict[str, Any]], Awaitable[Result]]


class Route(NamedTuple):
    """An operation; ``path`` is a template as in OpenAPI. Every caller may use it if ``scope`` is None."""

    method: str
    path: str
    scope: str | None
    operation: Operation


ROUTES = [
    Route("POST", "messages", SEND_MESSAGES, operations.send_message),
    Route("GET", "messages", READ_MESSAGES, operations.list_messages),
    Route("POST", "messages/read", READ_MESSAGES, operations.mark_read),
    Route("PUT", "users/{name}/notifications/{key}", PUBLISH_NOTIFICATIONS, operations.publish),
    Route("DELETE", "users/{name}/notifications/{key}", PUBLISH_NOTIFICATIONS, operations.delete),
    Route("POST", "notifications", PUBLISH_NOTIFICATIONS, operations.publish_all),
    Route("GET", "sessions", None, operations.list_sessions),
    Route("GET", "tokens", None, operations.list_tokens),
    Route("DELETE", "users/{name}/sessions", PUBLISH_NOTIFICATIONS, operations.end_sessions),
    Route("GET", "users/{name}", None, operations.show_user),
]
# Of the variables, only the key of a notification may have a slash, which servers pass on decoded. It comes last.
VARIABLE = re.compile(r"{(\w+)}")
PATTERNS = {
    path: re.compile(
        VARIABLE.sub(lambda found: f"(?P<{found[1]}>{'.' if found[1] == 'key' else '[^/]'}+)", path), re.DOTALL
    )
    for path in {each.path for each in ROUTES}
}


class Api:
    """Answers the requests to the API, and for its document ``/openapi.json``."""

    def __init__(self, callers: Callers, admission: Admission, services: Services, settings: Settings) -> None:
        self._callers = callers
        self._admission = admission
        self._services = services
        self._document = _document(settings)

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a path belongs to the API."""
        return path.startswith(PREFIX) or path == DOCUMENT

    async def body_limit(self, request: ApiRequest) -> int:
        """How long the body of ``request``, of which the beginning has arrived, may be. Raises Refused.

        Long bodies are read only for callers who may send them.
        """
        route, _ = _find(request)
        await self._callers.caller(request, route.scope)
        return LONGEST_BATCH if route.operation is operations.publish_all else LONGEST_BODY

    async def respond(self, scope: Any, body: bytes) -> Answer:
        """The answer to a request that ASGI's ``scope`` describes, with the whole ``body``."""
        try:
            request = self.request(scope)
            if len(body) > ANONYMOUS_BODY and len(body) > await self.body_limit(request):
                raise TooLarge
        except Refused as error:
            return self._admission.refusal(error)
        except Exception as error:
            return self._admission.failure(error)
        return await self.answer(request._replace(body=body))

    def request(self, scope: Any) -> ApiRequest:
        """The request that ``scope`` describes, without its body. Raises HostUnknown, InvalidText."""
        self._admission.check(scope)
        address = self._admission.address(scope)
        security_log.origin.set(address)
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        return ApiRequest(scope["method"], scope["path"], scope["query_string"], headers, b"", address)

    async def answer(self, request: ApiRequest) -> Answer:
        """The answer to ``request``; the transport adds ``Admission.cors``, and leaves out the body after HEAD."""
        try:
            return await self._answer(request)
        except Refused as error:
            return self._admission.refusal(error)
        except Exception as error:
            return self._admission.failure(error)

    async def _answer(self, request: ApiRequest) -> Answer:
        allowed = _methods(request.path)
        preflight = self._admission.preflight(request.method, request.headers, allowed) if allowed else None
        if preflight is not None:
            return preflight
        if request.path == DOCUMENT and request.method in allowed:
            return self._admission.page(self._document, polled=False)
        route, path = _find(request)
        caller = await self._callers.caller(request, route.scope)
        status, found = await route.operation(self._services, request, caller, path)
        return self._admission.page(json.dumps(found).encode(), polled=False)._replace(status=status)


def _document(settings: Settings) -> bytes:
    """The document; it names the address of this site, as far as it is configured."""
    content = files.OPENAPI.read_bytes()
    if not settings.public_url and not settings.path_prefix:
        return content
    servers = [{"url": (settings.public_url or "") + settings.path_prefix}]
    return json.dumps({**json.loads(content), "servers": servers}, ensure_ascii=False).encode()


def _methods(path: str) -> set[str]:
    """The methods of a path; empty for an unknown one."""
    if path == DOCUMENT:
        return {"GET", "HEAD"}
    rest = path.removeprefix(PREFIX)
    found = {each.method for each in ROUTES if PATTERNS[each.path].fullmatch(rest)}
    return found | {"HEAD"} if "GET" in found else found


def _find(request: ApiRequest) -> tuple[Route, dict[str, Any]]:
    """The route of a request and the variables in its path. Raises NotFound, MethodNotAllowed."""
    allowed = _methods(request.path)
    if not allowed:
        raise NotFound("api_not_found")
    method = "GET" if request.method == "HEAD" else request.method
    for route in ROUTES:
        found = PATTERNS[route.path].fullmatch(request.path.removeprefix(PREFIX))
        if found and route.method == method and request.path != DOCUMENT:
            return route, found.groupdict()
    raise MethodNotAllowed(allowed)

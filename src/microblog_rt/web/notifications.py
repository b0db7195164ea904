"""``/notifications`` and the API as an ASGI application that wraps Quart's: polls, streams, WebSockets, JSON.

``microblog-rt serve`` serves nearly all of these requests without ASGI, in ``push/``. This is for other ASGI servers.
See also: ``admission.py``, the checks; ``socket.py``, the WebSocket; ``http_stream.py``, streams.
"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from microblog_rt import metrics, protocol, security_log
from microblog_rt.accounts import Reader
from microblog_rt.errors import BadRequest, HostUnknown, NotFound, Refused, SignedOut, TooLarge
from microblog_rt.protocol import Notification
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.web.admission import PATH, Admission, Answer, Query, Scope
from microblog_rt.web.api import Api, ApiRequest
from microblog_rt.web.authentication import Authentication
from microblog_rt.web.body_limits import ANONYMOUS_BODY, BODY_LIMIT, LONGEST_BODY
from microblog_rt.web.hosts import Hosts, is_well_formed
from microblog_rt.web.http_stream import ClientDisconnected, HttpStream, unless_disconnected
from microblog_rt.web.socket import Socket

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

RESPONSE = "http.response"
REJECTION = "websocket.http.response"  # ASGI's HTTP response to a rejected handshake


class Endpoint:
    """The ASGI application: serves ``/notifications`` and passes everything else to Quart."""

    def __init__(
        self,
        inner: Any,
        admission: Admission,
        authentication: Authentication,
        hosts: Hosts,
        services: Services,
        settings: Settings,
        api: Api,
    ) -> None:
        self._inner = inner
        self._api = api
        self._admission = admission
        self._authentication = authentication
        self._hosts = hosts
        self._feed = services.feed
        self._hub = services.hub
        self._secure = settings.secure
        self._prefix = settings.path_prefix
        self._socket = Socket(self._feed, settings.heartbeat, admission.renewed)
        self._stream = HttpStream(self._feed, admission, settings.heartbeat)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif not is_well_formed(scope["headers"]):
            await respond(send, self._admission.refusal(HostUnknown()))
        elif scope["path"] == PATH:
            await respond(send, self._with_cors(scope, await self._http(scope, receive, send)))
        elif self._api.serves(scope["path"]):
            await respond(send, self._with_cors(scope, await self._call_api(scope, receive)))
        elif any(name == b"sec-websocket-key" for name, _ in scope["headers"]):
            await respond(send, self._admission.refusal(NotFound()))
        elif _is_valid_path(scope["path"]):
            await self._inner(self._public_scope(scope), receive, send)
        else:
            await respond(send, self._admission.refusal(BadRequest()))

    def _with_cors(self, scope: Scope, answer: Answer | None) -> Answer | None:
        fields = self._admission.cors(scope["headers"])
        return answer and answer._replace(headers=[*answer.headers, *fields])

    def _public_scope(self, scope: Scope) -> Scope:
        """The scope for Quart: the public scheme, the client's address behind the proxies, and the body's limit."""
        client = self._hosts.client_address(scope)
        security_log.origin.set(client)
        return {
            **scope,
            "path": self._prefix + scope["path"],  # ASGI: it includes ``root_path``
            "scheme": "https" if self._secure else scope["scheme"],
            "client": (client, 0),
            BODY_LIMIT: ANONYMOUS_BODY if self._is_anonymous(scope) else LONGEST_BODY,
        }

    def _is_anonymous(self, scope: Scope) -> bool:
        try:
            self._authentication.authenticate(scope["headers"])
        except SignedOut:
            return True
        return False

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            reader, query = await self._admission.admitted(scope, socket=True)
            self._hub.check_open()
            with self._admission.tabs.opened(reader.user_id, self._admission.address(scope), metrics.WEBSOCKETS):
                await self._socket.serve(reader, query.since, query.names, receive, send)
        except Refused as error:
            await respond(send, self._admission.refusal(error), REJECTION)
        except Exception as error:
            await respond(send, self._admission.failure(error), REJECTION)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        """The answer; None if it was sent, or the client has disconnected."""
        if scope["method"] not in ("GET", "HEAD"):
            return self._admission.other_method(scope["method"], scope["headers"])
        try:
            reader, query = await self._admission.admitted(scope)
            if query.form is not None:
                self._hub.check_open()
                with self._admission.tabs.opened(reader.user_id, self._admission.address(scope), query.form.gauge):
                    body = scope["method"] != "HEAD"
                    await self._stream.serve(reader, query, query.form, scope["headers"], receive, send, body)
                    return None
            notifications = await self._poll(scope, reader, query, receive)
        except Refused as error:
            return self._admission.refusal(error)
        except ClientDisconnected:
            return None
        except Exception as error:
            return self._admission.failure(error)
        return self._admission.page(protocol.frame(notifications).encode(), polled=query.wait is None)

    async def _call_api(self, scope: Scope, receive: Receive) -> Answer | None:
        try:
            request = self._api.request(scope)
            body = await self._body(request, receive)
        except Refused as error:
            return self._admission.refusal(error)
        except ClientDisconnected:
            return None
        except Exception as error:
            return self._admission.failure(error)
        return await self._api.answer(request._replace(body=body))

    async def _body(self, request: ApiRequest, receive: Receive) -> bytes:
        """The body of a request. Longer ones than those of anonymous clients only from callers who may send them."""
        received, limit, more = bytearray(), ANONYMOUS_BODY, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise ClientDisconnected
            received += event.get("body", b"")
            more = event.get("more_body", False)
            if len(received) > limit == ANONYMOUS_BODY:
                limit = await self._api.body_limit(request)
            if len(received) > limit:
                raise TooLarge
        return bytes(received)

    async def _poll(self, scope: Scope, reader: Reader, query: Query, receive: Receive) -> list[Notification]:
        if not query.wait:
            return counted("poll", await self._feed.page(reader, query.since, query.names))
        self._hub.check_open()
        with self._admission.tabs.opened(reader.user_id, self._admission.address(scope), metrics.LONG_POLLS):
            held = self._feed.hold(reader, query.since, query.names, query.wait)
            return counted("long_poll", await unless_disconnected(held, receive))


def counted(transport: str, notifications: list[Notification]) -> list[Notification]:
    """Count the answer to a poll in the metrics."""
    metrics.POLLS[transport].count()
    metrics.DELIVERIES[transport].count(bool(notifications))
    return notifications


def _is_valid_path(path: str) -> bool:
    try:
        urlsplit(path)
    except ValueError:
        return False
    return path != ""


async def respond(send: Send, answer: Answer | None, kind: str = RESPONSE) -> None:
    """Send an answer, if there is one, as events of this kind."""
    if answer is not None:
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
        await send({"type": f"{kind}.body", "body": answer.body, "more_body": False})

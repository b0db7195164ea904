"""``/notifications``, one URL for every transport: an ASGI application that wraps Quart's.

Without Quart a tab and a poll cost half the memory and CPU. This module has the poll, the long poll, and the checks
and query parsing that all transports share. See also: ``socket.py`` for the WebSocket.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from quart import Quart

from microblog_rt import metrics, protocol, security_log
from microblog_rt.accounts import Reader
from microblog_rt.errors import BadRequest, Forbidden, HostUnknown, InvalidText, NotFound, Refused, SignedOut
from microblog_rt.protocol import Notification
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.text import is_storable
from microblog_rt.web.authentication import Authentication
from microblog_rt.web.body_limits import ANONYMOUS_BODY, BODY_LIMIT, LONGEST_BODY
from microblog_rt.web.hosts import Hosts, check_origin, is_well_formed
from microblog_rt.web.problems import ANSWERS, JSON, PROBLEM, headers_of, problem, status_of, unexpected
from microblog_rt.web.sentences import SENTENCES, sentence
from microblog_rt.web.socket import Socket
from microblog_rt.web.tabs import Tabs

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

PATH = "/notifications"
POLL_AFTER = b"5"  # seconds
NAMES = 100
WAIT = re.compile(f"-?({protocol.CURSOR.pattern})")

RESPONSE = "http.response"

REJECTION = "websocket.http.response"  # ASGI's HTTP response to a rejected handshake

HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
PROBLEM_TYPE = (b"content-type", PROBLEM.encode())
HSTS = f"max-age={timedelta(days=365) // timedelta(seconds=1)}"


class Query(NamedTuple):
    """A parsed query. ``wait`` is in seconds, None for a plain poll; ``user`` is the user id of the page, if sent."""

    since: int
    names: frozenset[str]
    wait: float | None
    user: str | None


class ClientDisconnected(Exception):
    """The client disconnected."""


class Endpoint:
    """The ASGI application: serves ``/notifications`` and passes everything else to Quart."""

    def __init__(
        self,
        inner: Any,
        app: Quart,
        authentication: Authentication,
        hosts: Hosts,
        services: Services,
        settings: Settings,
    ) -> None:
        self._inner = inner
        self._app = app
        self._authentication = authentication
        self._hosts = hosts
        self._tabs = Tabs(settings)
        self._feed = services.feed
        self._hub = services.hub
        self._public_url = settings.public_url
        self._secure = settings.secure
        self._headers = [*HEADERS, (b"strict-transport-security", HSTS.encode())] if settings.secure else HEADERS
        self._socket = Socket(self._feed, settings.heartbeat)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
        elif not is_well_formed(scope["headers"]):
            await _answer(send, self._headers, HostUnknown(), REJECTION if scope["type"] == "websocket" else RESPONSE)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["path"] == PATH:
            await self._http(scope, receive, send)
        elif _is_valid_path(scope["path"]):
            await self._inner(self._public_scope(scope), receive, send)
        else:
            await _answer(send, self._headers, BadRequest())

    def _public_scope(self, scope: Scope) -> Scope:
        """The scope for Quart: the public scheme, the client's address behind the proxies, and the body's limit."""
        client = self._hosts.client_address(scope)
        security_log.origin.set(client)
        return {
            **scope,
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
            reader, query = self._admit(scope, socket=True)
            self._hub.check_open()
            with self._tabs.opened(reader.user_id, self._hosts.client_address(scope), metrics.WEBSOCKETS):
                await self._socket.serve(reader, query.since, query.names, receive, send)
        except Refused as error:
            await _answer(send, self._headers, error, REJECTION)
        except Exception as error:
            await _fail(send, self._headers, error, REJECTION)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _method_not_allowed(send, self._headers)
            return
        try:
            reader, query = self._admit(scope)
            notifications = await self._poll(scope, reader, query, receive)
        except Refused as error:
            await _answer(send, self._headers, error)
        except ClientDisconnected:
            pass
        except Exception as error:
            await _fail(send, self._headers, error)
        else:
            headers = [*self._headers, (b"content-type", JSON.encode())]
            if query.wait is None:
                headers.append((b"poll-after", POLL_AFTER))
            await _respond(send, HTTPStatus.OK, headers, protocol.frame(notifications).encode())

    def _admit(self, scope: Scope, *, socket: bool = False) -> tuple[Reader, Query]:
        headers = scope["headers"]
        self._hosts.check_host(scope)
        check_text(scope)
        if scope["path"] != PATH:
            raise NotFound
        self._check_origin(scope)
        reader = self._authentication.authenticate(headers)
        self._check_origin(scope, required=socket)
        query = parse(scope["query_string"])
        # A page left open while another user signed in on this browser must not get that user's notifications.
        if query.user is not None and query.user != str(reader.user_id):
            raise SignedOut
        return reader, query

    def _check_origin(self, scope: Scope, *, required: bool = False) -> None:
        try:
            check_origin(scope["headers"], self._public_url, required=required)
        except Forbidden as error:
            address = self._hosts.client_address(scope)
            security_log.note("origin_refused", address=address, reason=error.code, path=PATH)
            raise

    async def _poll(self, scope: Scope, reader: Reader, query: Query, receive: Receive) -> list[Notification]:
        if not query.wait:
            return _counted("poll", await self._feed.page(reader, query.since, query.names))
        self._hub.check_open()
        with self._tabs.opened(reader.user_id, self._hosts.client_address(scope), metrics.LONG_POLLS):
            return _counted("long_poll", await self._hold(reader, query, query.wait, receive))

    async def _hold(self, reader: Reader, query: Query, wait: float, receive: Receive) -> list[Notification]:
        held = asyncio.create_task(self._feed.hold(reader, query.since, query.names, wait))
        gone = asyncio.create_task(_until_disconnected(receive))
        try:
            await asyncio.wait({held, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not held.done():
                raise ClientDisconnected
            return held.result()
        finally:
            held.cancel()
            gone.cancel()
            await asyncio.gather(held, gone, return_exceptions=True)


def _counted(transport: str, notifications: list[Notification]) -> list[Notification]:
    metrics.POLLS[transport].count()
    metrics.DELIVERIES[transport].count(bool(notifications))
    return notifications


def parse(query_string: bytes) -> Query:
    """Parse a query string; raises BadRequest for the parameter that is malformed."""
    params = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    since, names, wait = _since(params.get("since")), _names(params.get("name", [])), _wait(params.get("wait"))
    return Query(since, names, wait, params.get("user", [None])[-1])


def _since(sent: list[str] | None) -> int:
    try:
        (text,) = sent or ["0"]
        return protocol.parse_cursor(text)
    except ValueError:
        raise BadRequest("since_format") from None


def _names(sent: list[str]) -> frozenset[str]:
    if len(sent) > NAMES:
        raise BadRequest("too_many_names")
    return frozenset(sent)


def _wait(sent: list[str] | None) -> float | None:
    if sent is None:
        return None
    if len(sent) != 1 or not WAIT.fullmatch(sent[0]):
        raise BadRequest("wait_format")
    return min(max(float(sent[0]), 0.0), protocol.LONGEST_WAIT)


def check_text(scope: Scope) -> None:
    """Raise InvalidText for a NUL character in the path, the query or a header. ``forms.py`` checks forms."""
    sent = [scope["query_string"], *(value for _, value in scope["headers"])]
    if not is_storable(scope["path"]) or b"%00" in scope["query_string"] or any(b"\0" in each for each in sent):
        raise InvalidText


def _is_valid_path(path: str) -> bool:
    try:
        urlsplit(path)
    except ValueError:
        return False
    return path != ""


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _method_not_allowed(send: Send, headers: Headers) -> None:
    status = HTTPStatus.METHOD_NOT_ALLOWED
    headers = [*headers, PROBLEM_TYPE, (b"allow", b"GET, HEAD")]
    await _respond(send, status, headers, problem(status, "method_not_allowed", SENTENCES["method_not_allowed"]))


async def _answer(send: Send, headers: Headers, error: Refused, kind: str = RESPONSE) -> None:
    status = status_of(error).status
    fields = [(name.lower().encode(), value.encode()) for name, value in headers_of(error).items()]
    headers = [*headers, PROBLEM_TYPE, *fields]
    await _respond(send, status, headers, problem(status, error.code, sentence(error)), kind)


async def _fail(send: Send, headers: Headers, error: Exception, kind: str = RESPONSE) -> None:
    status, text = ANSWERS["unexpected"].status, SENTENCES["unexpected"]
    headers = [*headers, PROBLEM_TYPE]
    await _respond(send, status, headers, problem(status, "unexpected", text, unexpected(error)), kind)


async def _respond(send: Send, status: int, headers: Headers, body: bytes, kind: str = RESPONSE) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body, "more_body": False})

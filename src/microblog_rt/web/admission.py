"""Which requests for ``/notifications`` are answered, and how the others are refused, on every transport.

See also: ``notifications.py``, the ASGI application; ``push/``, which serves the same URL without ASGI.
"""

import json
import re
from collections.abc import Iterable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from microblog_rt import protocol, security_log
from microblog_rt.accounts import Reader
from microblog_rt.errors import (
    BadRequest,
    Forbidden,
    HostUnknown,
    InvalidText,
    MethodNotAllowed,
    NotFound,
    Refused,
    SignedOut,
    SubjectUnknown,
)
from microblog_rt.settings import Settings
from microblog_rt.text import is_storable
from microblog_rt.web.authentication import Authentication
from microblog_rt.web.formats import SSE, Format, requested
from microblog_rt.web.hosts import Hosts, is_well_formed
from microblog_rt.web.origins import Origins
from microblog_rt.web.problems import ANSWERS, JSON, PROBLEM, headers_of, problem, status_of, unexpected
from microblog_rt.web.sentences import SENTENCES, sentence
from microblog_rt.web.tabs import Tabs

Scope = Any
Headers = list[tuple[bytes, bytes]]

PATH = "/notifications"
METHODS = ("GET", "HEAD")
POLL_AFTER = b"5"  # seconds
NAMES = 100
WAIT = re.compile(f"-?({protocol.CURSOR.pattern})")

HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
HSTS = f"max-age={timedelta(days=365) // timedelta(seconds=1)}"


class Query(NamedTuple):
    """A parsed query. ``wait`` is in seconds, None for a plain poll; ``user`` is the user id of the page, if sent.

    ``form`` is the format of a streamed response, None for a poll.
    """

    since: int
    names: frozenset[str]
    wait: float | None
    user: str | None
    form: Format | None = None


class Answer(NamedTuple):
    """An HTTP response."""

    status: HTTPStatus
    headers: Headers
    body: bytes


class Admission:
    """The checks of a request for ``/notifications``, whose ``scope`` is ASGI's, and the answers."""

    def __init__(self, authentication: Authentication, hosts: Hosts, settings: Settings) -> None:
        self._authentication = authentication
        self._hosts = hosts
        self._origins = Origins(settings)
        self._prefix = settings.path_prefix
        self._headers = [*HEADERS, (b"strict-transport-security", HSTS.encode())] if settings.secure else HEADERS
        self.tabs = Tabs(settings)

    def admit(self, scope: Scope, *, socket: bool = False) -> tuple[Reader, Query]:
        """The reader and the query of a request; ``socket``: a WebSocket handshake. Raises Refused, SubjectUnknown."""
        self.check(scope)
        if scope["path"] != PATH:
            raise NotFound
        self._check_origin(scope)
        reader = self._authentication.authenticate(scope["headers"])
        if socket:
            self._check_origin(scope, required=True)
        return reader, self.query(scope["query_string"], scope["headers"], reader)

    async def admitted(self, scope: Scope, *, socket: bool = False) -> tuple[Reader, Query]:
        """The same; a user of another site who is new here gets an account."""
        try:
            return self.admit(scope, socket=socket)
        except SubjectUnknown as unknown:
            await self.ensure_account(unknown)
        return self.admit(scope, socket=socket)

    async def ensure_account(self, unknown: SubjectUnknown) -> None:
        """Look up the account of a user of another site, or create it. Raises Refused."""
        await self._authentication.site_users.ensure_account(unknown.subject)

    def renewed(self, reader: Reader, message: str) -> Reader:
        """The reader of the token in a client's frame, a JSON string. Raises TokenEnded, Forbidden; ValueError."""
        token = json.loads(message)
        if not isinstance(token, str):
            raise ValueError("not a string")
        new = self._authentication.site_users.renewed(reader, token)
        if new is None:
            raise Forbidden
        return new

    def query(self, query_string: bytes, headers: Headers, reader: Reader) -> Query:
        """The query of a request of ``reader``. Raises BadRequest, InvalidText, SignedOut."""
        check_query(query_string)
        query = parse(query_string, headers)
        # A page left open while another user signed in on this browser must not get that user's notifications.
        if query.user is not None and query.user != str(reader.user_id):
            raise SignedOut
        return query

    def check(self, scope: Scope) -> None:
        """Check what every request must have: one Host that is known, and text that can be stored. Raises Refused."""
        if not is_well_formed(scope["headers"]):
            raise HostUnknown
        self._hosts.check_host(scope)
        check_text(scope)

    def address(self, scope: Scope) -> str:
        """The client's address behind the proxies, for limits; "" if unknown."""
        return self._hosts.client_address(scope)

    def page(self, body: bytes, *, polled: bool) -> Answer:
        """The answer with notifications; ``polled``: to a plain poll."""
        headers = [*self._headers, (b"content-type", JSON.encode())]
        return Answer(HTTPStatus.OK, [*headers, (b"poll-after", POLL_AFTER)] if polled else headers, body)

    def stream_headers(self, form: Format, heartbeat: float, sent: Headers) -> Headers:
        """The header fields of a streamed response to a request with those ``sent``; ``heartbeat``: in seconds."""
        return [
            *self._headers,
            (b"content-type", form.media_type.encode()),
            (b"x-accel-buffering", b"no"),
            (b"heartbeat", b"%g" % heartbeat),
            *self.cors(sent),
        ]

    def refusal(self, error: Refused) -> Answer:
        """The answer to a request that is refused."""
        status = status_of(error).status
        fields = [(name.lower().encode(), value.encode()) for name, value in headers_of(error, self._prefix).items()]
        return self._problem(status, fields, problem(status, error.code, sentence(error)))

    def failure(self, error: Exception) -> Answer:
        """The answer after an unexpected error, which is logged."""
        status, text = ANSWERS["unexpected"].status, SENTENCES["unexpected"]
        return self._problem(status, [], problem(status, "unexpected", text, unexpected(error)))

    def other_method(self, method: str, headers: Headers) -> Answer:
        """The answer to another method than GET and HEAD: to a preflight, or 405."""
        return self.preflight(method, headers, METHODS) or self.refusal(MethodNotAllowed(METHODS))

    def preflight(self, method: str, headers: Headers, allowed: Iterable[str]) -> Answer | None:
        """The answer to a preflight (CORS) of an allowed origin; None to any other request."""
        fields = self._origins.preflight(method, headers, allowed)
        return None if fields is None else Answer(HTTPStatus.NO_CONTENT, [*self._headers, *fields], b"")

    def cors(self, headers: Headers) -> Headers:
        """The CORS header fields of the response to a request with these headers; usually none."""
        return self._origins.fields(headers)

    def _problem(self, status: HTTPStatus, fields: Headers, body: bytes) -> Answer:
        return Answer(status, [*self._headers, (b"content-type", PROBLEM.encode()), *fields], body)

    def _check_origin(self, scope: Scope, *, required: bool = False) -> None:
        try:
            self._origins.check(scope["headers"], required=required)
        except Forbidden as error:
            security_log.note("origin_refused", address=self.address(scope), reason=error.code, path=scope["path"])
            raise


def parse(query_string: bytes, headers: Headers) -> Query:
    """Parse a query string, ``Accept`` and ``Last-Event-ID``; raises BadRequest for the parameter that is malformed."""
    params = _params(query_string.decode("latin-1"))
    since, names, wait = _since(params.get("since")), _names(params.get("name", [])), _wait(params.get("wait"))
    form = requested(headers)
    if form is SSE and (sent := [value.decode("latin-1") for name, value in headers if name == b"last-event-id"]):
        since = _since(sent)  # a browser that reconnects sends it, and ``since`` as at first
    return Query(since, names, wait, params.get("user", [None])[-1], form)


def _params(query: str) -> dict[str, list[str]]:
    if "%" in query or "+" in query:
        return parse_qs(query, keep_blank_values=True)
    # Nothing is encoded, as usual: a fifth of the time.
    found: dict[str, list[str]] = {}
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            found.setdefault(name, []).append(value)
    return found


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
    check_query(scope["query_string"])
    if not is_storable(scope["path"]) or any(b"\0" in value for _, value in scope["headers"]):
        raise InvalidText


def check_query(query_string: bytes) -> None:
    """Raise InvalidText for a NUL character in a query."""
    if b"\0" in query_string or b"%00" in query_string:
        raise InvalidText

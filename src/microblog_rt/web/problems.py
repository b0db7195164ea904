"""Errors as responses: one table of statuses, an HTML page for browsers, problem+json (RFC 9457) for programs."""

import json
import logging
import random
import secrets
from collections.abc import Iterable
from errno import ENAMETOOLONG
from functools import lru_cache, partial
from http import HTTPStatus
from typing import NamedTuple, cast

from quart import Quart, Response, current_app, g, make_response, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_accept_header

from microblog_rt import metrics
from microblog_rt.errors import (
    BadRequest,
    Draining,
    MethodNotAllowed,
    NotFound,
    Refused,
    SignedOut,
    TokenEnded,
    TooLarge,
    Unavailable,
)
from microblog_rt.web.body_limits import ANONYMOUS_BODY, LimitedRequest
from microblog_rt.web.languages import gettext, refresh, translated
from microblog_rt.web.preferences import LANGUAGES
from microblog_rt.web.sentences import N_, SENTENCES
from microblog_rt.web.templates import render_template

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """The HTTP status of an error, and its close code after a WebSocket handshake."""

    status: HTTPStatus
    close_code: int


class Field(NamedTuple):
    """A form field that the error page offers to send again; hidden without a label."""

    name: str
    value: str
    label: str | None


# By error code. A close code is 4000 + the status, except when the server fails or shuts down (RFC 6455, 7.4.1).
ANSWERS = {
    "refused": Answer(HTTPStatus.BAD_REQUEST, 4400),
    "bad_request": Answer(HTTPStatus.BAD_REQUEST, 4400),
    "signed_out": Answer(HTTPStatus.UNAUTHORIZED, 4401),
    "subject_invalid": Answer(HTTPStatus.UNAUTHORIZED, 4401),
    "subject_taken": Answer(HTTPStatus.UNAUTHORIZED, 4401),
    "forbidden": Answer(HTTPStatus.FORBIDDEN, 4403),
    "origin_missing": Answer(HTTPStatus.FORBIDDEN, 4403),
    "origin_foreign": Answer(HTTPStatus.FORBIDDEN, 4403),
    "csrf_missing": Answer(HTTPStatus.FORBIDDEN, 4403),
    "csrf_wrong": Answer(HTTPStatus.FORBIDDEN, 4403),
    "other_account": Answer(HTTPStatus.FORBIDDEN, 4403),
    "invalid_text": Answer(HTTPStatus.BAD_REQUEST, 4400),
    "host_unknown": Answer(HTTPStatus.BAD_REQUEST, 4400),
    "not_found": Answer(HTTPStatus.NOT_FOUND, 4404),
    "method_not_allowed": Answer(HTTPStatus.METHOD_NOT_ALLOWED, 4405),
    "too_large": Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, 4413),
    "unsupported_media_type": Answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, 4415),
    "invalid": Answer(HTTPStatus.UNPROCESSABLE_ENTITY, 4422),
    "idempotency_key_reused": Answer(HTTPStatus.UNPROCESSABLE_ENTITY, 4422),
    "too_many": Answer(HTTPStatus.TOO_MANY_REQUESTS, 4429),
    "unexpected": Answer(HTTPStatus.INTERNAL_SERVER_ERROR, 1011),
    "unavailable": Answer(HTTPStatus.SERVICE_UNAVAILABLE, 4503),
    "draining": Answer(HTTPStatus.SERVICE_UNAVAILABLE, 1012),
}

# Codes of Quart's own errors. Not the status phrases: those differ between Python versions.
CODES = {
    HTTPStatus.NOT_FOUND: NotFound.code,
    HTTPStatus.METHOD_NOT_ALLOWED: MethodNotAllowed.code,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge.code,
}

TITLES = {
    HTTPStatus.BAD_REQUEST: N_("Bad request"),
    HTTPStatus.UNAUTHORIZED: N_("Sign in required"),
    HTTPStatus.FORBIDDEN: N_("Forbidden"),
    HTTPStatus.NOT_FOUND: N_("Page not found"),
    HTTPStatus.METHOD_NOT_ALLOWED: N_("Method not allowed"),
    HTTPStatus.UNPROCESSABLE_ENTITY: N_("Invalid request"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: N_("Payload too large"),
    HTTPStatus.TOO_MANY_REQUESTS: N_("Too many requests"),
    HTTPStatus.INTERNAL_SERVER_ERROR: N_("Internal server error"),
    HTTPStatus.SERVICE_UNAVAILABLE: N_("Service unavailable"),
}

RECONNECT_WITHIN = 2000  # milliseconds

JSON = "application/json"
PROBLEM = "application/problem+json"
HTML = "text/html"

# RFC 9110 requires a challenge with every 401. No scheme is registered for cookies; browsers ignore an unknown one.
CHALLENGE = 'Cookie realm="microblog-rt", form-action="%s/auth/login"'
BEARER_CHALLENGE = 'Bearer realm="microblog-rt"'
SAFE = {"GET", "HEAD", "OPTIONS"}


def init(app: Quart) -> None:
    """Register the error handlers of ``app``; the error page is loaded before it serves."""
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    app.before_serving(partial(_load_page, app))


def status_of(error: Refused) -> Answer:
    """The HTTP status and close code of an error."""
    return ANSWERS[error.code]


def unexpected(error: Exception) -> str:
    """Log an unexpected error once, and return the reference that the client gets."""
    metrics.UNEXPECTED_ERRORS.count()
    reference = secrets.token_hex(4)
    log.error("unexpected error, reference %s", reference, exc_info=error)
    return reference


def close_of(error: Exception) -> tuple[int, str]:
    """The close code and the reason of a WebSocket that ``error`` ends. An unexpected one is logged."""
    if isinstance(error, Unavailable):
        return status_of(error).close_code, str(retry_milliseconds(error))
    if isinstance(error, Refused):
        return status_of(error).close_code, error.code
    return ANSWERS["unexpected"].close_code, unexpected(error)


def retry_milliseconds(error: Unavailable) -> int:
    """When a client whose stream ``error`` ends shall reconnect."""
    if isinstance(error, Draining):
        return round(error.back_in * 1000)
    # Random, so that clients do not all reconnect at once.
    return random.randrange(RECONNECT_WITHIN)  # noqa: S311


def problem(status: HTTPStatus, code: str, sentence: str, reference: str | None = None) -> bytes:
    """The body of a problem+json response; ``reference`` is the one in the log."""
    body = {"type": "about:blank", "title": status.phrase, "status": status, "code": code, "detail": sentence}
    return json.dumps(body | ({"reference": reference} if reference else {})).encode()


def wants_json() -> bool:
    """Whether the current request comes from a program: it prefers JSON, or does not name HTML as browsers do.

    A GET without either is answered with a page.
    """
    fields = request.headers
    return prefers_json(fields.get("Accept", ""), fields.get("Sec-Fetch-Mode"), request.method)


@lru_cache(maxsize=1000)  # parsing Accept takes 3 % of a send (measured)
def prefers_json(accept: str, mode: str | None, method: str) -> bool:
    """The same for a request with these values of Accept and Sec-Fetch-Mode."""
    accepted = parse_accept_header(accept, MIMEAccept)
    if accepted.best_match([HTML, JSON, PROBLEM]) in (JSON, PROBLEM):
        return True
    if HTML in accepted.values() or mode == "navigate":
        return False
    return mode is not None or method not in SAFE


def headers_of(error: Refused, prefix: str) -> dict[str, str]:
    """The header fields of an error's response; ``prefix`` is the path below which the site is."""
    headers: dict[str, str] = {}
    if isinstance(error, SignedOut):
        headers["WWW-Authenticate"] = BEARER_CHALLENGE if isinstance(error, TokenEnded) else CHALLENGE % prefix
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    return headers if error.retry_after is None else headers | {"Retry-After": str(error.retry_after)}


async def _load_page(app: Quart) -> None:
    """Render the page in each language, so that later ones need no file: there may be no descriptor left."""
    for language in LANGUAGES:
        async with app.test_request_context("/", headers={"Accept": HTML, "Accept-Language": language}):
            refresh()  # start-up has one context for all languages
            await _answer(HTTPStatus.NOT_FOUND, NotFound.code, translated(NotFound()))


async def _refused(error: Refused) -> Response:
    again = await _fields_to_resend() if isinstance(error, Unavailable) else []
    answer = await _answer(status_of(error).status, error.code, translated(error), again=again)
    answer.headers.update(headers_of(error, request.root_path))
    return answer


async def _http_error(error: HTTPException) -> Response:
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return cast(Response, error.get_response())
    status = HTTPStatus(error.code)
    code = CODES.get(status, BadRequest.code)
    signed_out = status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE and cast(LimitedRequest, request).limit == ANONYMOUS_BODY
    sentence = SENTENCES["too_large_signed_out"] if signed_out else _sentence_of(status)
    answer = await _answer(status, code, gettext(sentence))
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))  # type: ignore[attr-defined]
    return answer


async def _unexpected(error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno == ENAMETOOLONG:
        return await _refused(NotFound())  # a static file's name
    status, sentence = ANSWERS["unexpected"].status, SENTENCES["unexpected"]
    return await _answer(status, "unexpected", gettext(sentence), unexpected(error))


def _sentence_of(status: HTTPStatus) -> str:
    by_status = {answer.status: code for code, answer in reversed(ANSWERS.items())} | CODES
    return SENTENCES[by_status.get(status, BadRequest.code)]


async def _fields_to_resend() -> list[Field]:
    """The submitted fields that the view declares with ``redisplays_form``, unchanged, and the CSRF token."""
    resend = _resend()
    if not resend or "refusal" in g:
        return []
    sent = await request.form
    return [Field(name, sent[name], label) for name, label in {"csrf_token": None, **resend}.items() if name in sent]


def _resend() -> dict[str, str | None]:
    """What ``redisplays_form`` says about the form that was submitted; empty if none was."""
    view = current_app.view_functions.get(request.endpoint or "") if request.method == "POST" else None
    return getattr(view, "resend", {})


async def _answer(
    status: HTTPStatus, code: str, sentence: str, reference: str | None = None, again: Iterable[Field] = ()
) -> Response:
    if wants_json():
        answer = await make_response(problem(status, code, sentence, reference), status)
        answer.content_type = PROBLEM
    else:
        title = gettext(TITLES.get(status, TITLES[HTTPStatus.BAD_REQUEST]))
        back = request.root_path + request.path if _resend() else None  # to the draft
        page = await render_template(
            "error.html",
            status=status.value,
            title=title,
            sentence=sentence,
            reference=reference,
            again=again,
            back=back,
        )
        answer = await make_response(page, status)
    return cast(Response, answer)

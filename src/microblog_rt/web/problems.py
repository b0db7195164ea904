"""Refusals as answers: one table of statuses, a page for people, problem+json (RFC 9457) for programs.

A WebSocket's close code after its handshake is 4000 and the status. Not here: what is refused (``errors.py``).
"""

import json
import logging
import secrets
from errno import ENAMETOOLONG
from http import HTTPStatus
from typing import cast

from quart import Quart, Response, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from microblog_rt.errors import (
    N_,
    BadRequest,
    Draining,
    Forbidden,
    NotFound,
    Refused,
    SignedOut,
    Unavailable,
)
from microblog_rt.web.languages import gettext, said

log = logging.getLogger(__name__)

STATUS: dict[type[Refused], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    SignedOut: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

TITLES = {
    HTTPStatus.BAD_REQUEST: N_("Not understood"),
    HTTPStatus.UNAUTHORIZED: N_("Please sign in"),
    HTTPStatus.FORBIDDEN: N_("Not allowed"),
    HTTPStatus.NOT_FOUND: N_("Not found"),
    HTTPStatus.METHOD_NOT_ALLOWED: N_("Not done that way"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: N_("Too much"),
    HTTPStatus.TOO_MANY_REQUESTS: N_("Too often"),
    HTTPStatus.INTERNAL_SERVER_ERROR: N_("Something went wrong"),
    HTTPStatus.SERVICE_UNAVAILABLE: N_("Not now"),
}

SENTENCES = {
    HTTPStatus.NOT_FOUND: NotFound.sentence,
    HTTPStatus.METHOD_NOT_ALLOWED: N_("This address does not take such a request."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: N_("What was sent is too large. Nothing was kept of it."),
    HTTPStatus.TOO_MANY_REQUESTS: N_("That was too often. Please wait a little, then try again."),
    HTTPStatus.INTERNAL_SERVER_ERROR: N_("This is our fault, not yours. It has been written down."),
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable.sentence,
}

JSON = "application/json"
PROBLEM = "application/problem+json"


def init(app: Quart) -> None:
    """Answer every error of ``app``."""
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def status_of(error: Refused) -> HTTPStatus:
    """The HTTP status of a refusal: its own in the table, or that of the nearest above it."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def close_code(error: Refused) -> int:
    """The WebSocket close code of a refusal; a server that goes away says so in RFC 6455's own way."""
    return SERVICE_RESTART if isinstance(error, Draining) else 4000 + status_of(error)


SERVICE_RESTART = 1012


def problem(status: HTTPStatus, code: str, sentence: str) -> bytes:
    """The body of a problem+json answer."""
    body = {"type": "about:blank", "title": status.phrase, "status": status, "code": code, "detail": sentence}
    return json.dumps(body).encode()


def wants_json() -> bool:
    """Whether the present request asks for JSON rather than a page."""
    accepted = request.accept_mimetypes
    return accepted.best_match(["text/html", JSON, PROBLEM]) in (JSON, PROBLEM)


async def _refused(error: Refused) -> Response:
    answer = await _answer(status_of(error), error.code, said(error))
    if isinstance(error, Unavailable):
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


async def _http_error(error: HTTPException) -> Response:
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return cast(Response, error.get_response())
    status = HTTPStatus(error.code)
    answer = await _answer(status, status.name.lower(), gettext(SENTENCES.get(status, BadRequest.sentence)))
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(error.valid_methods or ())  # type: ignore[attr-defined]
    return answer


async def _unexpected(error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno == ENAMETOOLONG:
        return await _refused(NotFound())  # no file of ours
    reference = secrets.token_hex(4)
    log.error("unexpected, told as reference %s", reference, exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return await _answer(status, "unexpected", gettext(SENTENCES[status]), reference)


async def _answer(status: HTTPStatus, code: str, sentence: str, reference: str | None = None) -> Response:
    if wants_json():
        detail = f"{sentence} ({reference})" if reference else sentence
        answer = await make_response(problem(status, code, detail), status)
        answer.content_type = PROBLEM
    else:
        title = gettext(TITLES.get(status, TITLES[HTTPStatus.BAD_REQUEST]))
        page = await render_template(
            "error.html", status=status.value, title=title, sentence=sentence, reference=reference
        )
        answer = await make_response(page, status)
    return cast(Response, answer)

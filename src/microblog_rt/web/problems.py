"""Refusals as answers: one table of statuses, a page for people, problem+json (RFC 9457) for programs.

Not here: what is refused (``errors.py``).
"""

import json
import logging
import secrets
from errno import ENAMETOOLONG
from http import HTTPStatus
from typing import NamedTuple, cast

from quart import Quart, Response, g, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from microblog_rt import metrics
from microblog_rt.errors import N_, BadRequest, NotFound, Refused, TooMany, Unavailable
from microblog_rt.web.languages import gettext, said

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What a refusal is over HTTP, and after a WebSocket's handshake."""

    status: HTTPStatus
    close_code: int


# The one table, by error code. A close code is 4000 and the status, but for a server that goes away (RFC 6455, 7.4.1).
ANSWERS = {
    "refused": Answer(HTTPStatus.BAD_REQUEST, 4400),
    "bad_request": Answer(HTTPStatus.BAD_REQUEST, 4400),
    "signed_out": Answer(HTTPStatus.UNAUTHORIZED, 4401),
    "forbidden": Answer(HTTPStatus.FORBIDDEN, 4403),
    "not_found": Answer(HTTPStatus.NOT_FOUND, 4404),
    "invalid": Answer(HTTPStatus.UNPROCESSABLE_ENTITY, 4422),
    "idempotency_key_reused": Answer(HTTPStatus.UNPROCESSABLE_ENTITY, 4422),
    "too_many": Answer(HTTPStatus.TOO_MANY_REQUESTS, 4429),
    "unexpected": Answer(HTTPStatus.INTERNAL_SERVER_ERROR, 1011),
    "unavailable": Answer(HTTPStatus.SERVICE_UNAVAILABLE, 4503),
    "draining": Answer(HTTPStatus.SERVICE_UNAVAILABLE, 1012),
}

# What Quart refuses by itself. Not the names of the statuses: those change with Python's version.
CODES = {
    HTTPStatus.NOT_FOUND: NotFound.code,
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
}

TITLES = {
    HTTPStatus.BAD_REQUEST: N_("Not understood"),
    HTTPStatus.UNAUTHORIZED: N_("Please sign in"),
    HTTPStatus.FORBIDDEN: N_("Not allowed"),
    HTTPStatus.NOT_FOUND: N_("Not found"),
    HTTPStatus.METHOD_NOT_ALLOWED: N_("Not done that way"),
    HTTPStatus.UNPROCESSABLE_ENTITY: N_("Not accepted"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: N_("Too much"),
    HTTPStatus.TOO_MANY_REQUESTS: N_("Too often"),
    HTTPStatus.INTERNAL_SERVER_ERROR: N_("Something went wrong"),
    HTTPStatus.SERVICE_UNAVAILABLE: N_("Not now"),
}

SENTENCES = {
    HTTPStatus.NOT_FOUND: NotFound.sentence,
    HTTPStatus.METHOD_NOT_ALLOWED: N_("This address does not take such a request."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: N_("What was sent is too large. Nothing was kept of it."),
    HTTPStatus.TOO_MANY_REQUESTS: TooMany.sentence,
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


def answer_to(error: Refused) -> Answer:
    """What a refusal is on the wire."""
    return ANSWERS[error.code]


def unexpected(error: Exception) -> str:
    """Log an error that nobody foresaw, once, under a reference that whoever met it is told."""
    metrics.UNEXPECTED.count()
    reference = secrets.token_hex(4)
    log.error("unexpected, told as reference %s", reference, exc_info=error)
    return reference


def problem(status: HTTPStatus, code: str, sentence: str, reference: str | None = None) -> bytes:
    """The body of a problem+json answer; ``reference`` finds what was logged."""
    body = {"type": "about:blank", "title": status.phrase, "status": status, "code": code, "detail": sentence}
    return json.dumps(body | ({"reference": reference} if reference else {})).encode()


def wants_json() -> bool:
    """Whether the present request asks for JSON rather than a page."""
    accepted = request.accept_mimetypes
    return accepted.best_match(["text/html", JSON, PROBLEM]) in (JSON, PROBLEM)


async def _refused(error: Refused) -> Response:
    again = await _to_send_again() if isinstance(error, Unavailable) else {}
    answer = await _answer(answer_to(error).status, error.code, said(error), again=again)
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


async def _http_error(error: HTTPException) -> Response:
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return cast(Response, error.get_response())
    status = HTTPStatus(error.code)
    code, sentence = CODES.get(status, BadRequest.code), gettext(SENTENCES.get(status, BadRequest.sentence))
    answer = await _answer(status, code, sentence)
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(error.valid_methods or ())  # type: ignore[attr-defined]
    return answer


async def _unexpected(error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno == ENAMETOOLONG:
        return await _refused(NotFound())  # no file of ours
    status = ANSWERS["unexpected"].status
    return await _answer(status, "unexpected", gettext(SENTENCES[status]), unexpected(error))


async def _to_send_again() -> dict[str, str]:
    """A message that could not be taken just now: the same form, so that it is sent once, whatever became of it."""
    if request.method != "POST" or request.endpoint != "messages.send_message" or g.get("form_is_old"):
        return {}
    sent = await request.form
    return {name: sent[name] for name in ("csrf_token", "nonce", "message") if name in sent}


async def _answer(
    status: HTTPStatus, code: str, sentence: str, reference: str | None = None, again: dict[str, str] | None = None
) -> Response:
    if wants_json():
        answer = await make_response(problem(status, code, sentence, reference), status)
        answer.content_type = PROBLEM
    else:
        title = gettext(TITLES.get(status, TITLES[HTTPStatus.BAD_REQUEST]))
        page = await render_template(
            "error.html", status=status.value, title=title, sentence=sentence, reference=reference, again=again
        )
        answer = await make_response(page, status)
    return cast(Response, answer)

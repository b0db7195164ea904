"""WTForms with a CSRF token, checked for every state-changing request before its view runs.

The token is stored in Quart's signed cookie and sent in the field ``csrf_token`` or the header ``X-CSRFToken``. A form
with an expired token is shown again with its content.
"""

import hmac
import secrets
from collections.abc import Callable
from http import HTTPStatus
from math import ceil
from typing import Any, TypeVar, cast

from quart import Quart, Response, flash, g, make_response, render_template, request, session
from quart.typing import RouteCallable
from wtforms import Form
from wtforms.fields.core import Field

from microblog_rt.errors import Forbidden, Invalid, TooMany
from microblog_rt.web.hosts import check_origin
from microblog_rt.web.languages import gettext, translated
from microblog_rt.web.problems import status_of, wants_json

LONGEST_IN_SECONDS = 90
SAFE = {"GET", "HEAD", "OPTIONS"}
TOKEN = "csrf_token"  # noqa: S105

F = TypeVar("F", bound=Form)


def init(app: Quart, public_url: str | None) -> None:
    """Check the origin and token of every state-changing request to ``app``."""

    @app.before_request
    async def protect() -> None:
        if request.method in SAFE:
            return
        check_origin(request.scope["headers"], public_url, required=True)
        if not await _token_is_valid():
            if not getattr(app.view_functions.get(request.endpoint or ""), "redisplays_form", False):
                raise Forbidden
            g.form_expired = True

    @app.context_processor
    async def token() -> dict[str, Any]:
        return {TOKEN: csrf_token}


def csrf_token() -> str:
    """This browser's token, created on first use."""
    if TOKEN not in session:
        session[TOKEN] = secrets.token_urlsafe(24)
    return str(session[TOKEN])


def redisplays_form(**resend: str | None) -> Callable[[RouteCallable], RouteCallable]:
    """Mark a view that checks ``submitted`` before it changes anything, and otherwise shows its form again.

    ``resend`` names the fields that the error page offers to send again after Unavailable: each with its label, or
    None for a hidden field.
    """

    def mark(view: RouteCallable) -> RouteCallable:
        cast(Any, view).redisplays_form = True
        cast(Any, view).resend = resend
        return view

    return mark


def form_expired() -> bool:
    """Whether the submitted form has no valid token of this browser."""
    return bool(g.get("form_expired", False))


async def bind_form(kind: type[F]) -> F:
    """The form with the submitted data, if any."""
    return kind(await request.form if request.method == "POST" else None)


def submitted(form: Form) -> bool:
    """Whether the form was submitted with a valid token and passes its validators."""
    if request.method != "POST":
        return False
    if form_expired():
        form.form_errors = [gettext("This page has expired. Your text is below; send it again.")]
        return False
    return form.validate()


def add_error(form: Form, error: Invalid | TooMany) -> None:
    """Show an error beside its field, or above the form; raises TooMany again for a JSON client."""
    if isinstance(error, TooMany):
        if wants_json():
            raise error
        form.form_errors = [_retry_sentence(error.retry_after or 0)]
        g.too_many = error
    else:
        field: Field = form[error.field] if error.field in form else next(iter(form))
        field.errors = [*field.errors, translated(error)]


async def render_form(template: str, form: Form, **context: Any) -> Response:
    """The page with the form; its status says whether the form has errors."""
    answer = await make_response(await render_template(template, form=form, **context), _status(form))
    if "too_many" in g:
        answer.headers["Retry-After"] = str(g.too_many.retry_after)
    return cast(Response, answer)


async def flash_once(sentence: str, category: str) -> None:
    """Flash a sentence unless it is already queued: a client that renders no page must not fill its cookie."""
    if (category, sentence) not in [tuple(each) for each in session.get("_flashes", [])]:
        await flash(sentence, category)


def _status(form: Form) -> HTTPStatus:
    if "too_many" in g:
        return status_of(g.too_many).status
    if form_expired():
        return HTTPStatus.FORBIDDEN
    return HTTPStatus.UNPROCESSABLE_ENTITY if form.errors or form.form_errors else HTTPStatus.OK


def _retry_sentence(seconds: int) -> str:
    if seconds < LONGEST_IN_SECONDS:
        # At least 2: the sentence has no singular.
        return gettext("Too many attempts. Try again in %(seconds)s seconds.", seconds=max(seconds, 2))
    return gettext("Too many attempts. Try again in about %(minutes)s minutes.", minutes=ceil(seconds / 60))


async def _token_is_valid() -> bool:
    sent = request.headers.get("X-CSRFToken") or (await request.form).get(TOKEN, "")
    kept = session.get(TOKEN, "")
    return bool(kept) and hmac.compare_digest(sent.encode(), kept.encode())

"""WTForms with a CSRF token, and the check that every state-changing request passes before its view.

The token lives in Quart's signed cookie and comes back in the field ``csrf_token`` or the header
``X-CSRFToken``. A form that has only grown old is shown again with what was written in it.
"""

import hmac
import secrets
from http import HTTPStatus
from math import ceil
from typing import Any, TypeVar, cast

from quart import Quart, Response, flash, g, make_response, render_template, request, session
from quart.typing import RouteCallable
from wtforms import Form
from wtforms.fields.core import Field

from microblog_rt.errors import N_, Forbidden, Invalid, TooMany
from microblog_rt.web import origin
from microblog_rt.web.languages import gettext, said
from microblog_rt.web.problems import answer_to, wants_json

GROWN_OLD = N_("This form had grown old. Please send it once more.")
LONGEST_IN_SECONDS = 90
SAFE = {"GET", "HEAD", "OPTIONS"}
TOKEN = "csrf_token"  # noqa: S105

F = TypeVar("F", bound=Form)


def init(app: Quart, public_url: str | None) -> None:
    """Check every request of ``app`` that may change something."""

    @app.before_request
    async def protect() -> None:
        if request.method in SAFE:
            return
        origin.check(request.scope["headers"], public_url, required=True)
        if not await _token_is_right():
            if not getattr(app.view_functions.get(request.endpoint or ""), "keeps_form", False):
                raise Forbidden
            g.form_is_old = True

    @app.context_processor
    async def token() -> dict[str, Any]:
        return {TOKEN: csrf_token}


def csrf_token() -> str:
    """This browser's token, made where there is none yet."""
    if TOKEN not in session:
        session[TOKEN] = secrets.token_urlsafe(24)
    return str(session[TOKEN])


def keeps_form(view: RouteCallable) -> RouteCallable:
    """A view that asks ``submitted`` before it does anything, and else shows its form again."""
    cast(Any, view).keeps_form = True
    return view


def form_is_old() -> bool:
    """Whether the form that was sent bears no token of this browser's, or one of before."""
    return bool(g.get("form_is_old", False))


async def filled(kind: type[F]) -> F:
    """The form as it was sent; empty where nothing was."""
    return kind(await request.form if request.method == "POST" else None)


def submitted(form: Form) -> bool:
    """Whether the form was sent from our page and passes its own checks."""
    if request.method != "POST":
        return False
    if form_is_old():
        form.form_errors = [gettext(GROWN_OLD)]
        return False
    return form.validate()


def blame(form: Form, error: Invalid | TooMany) -> None:
    """Show a refusal beside the field that it is about, or above the form; a program is told of a limit without one."""
    if isinstance(error, TooMany):
        if wants_json():
            raise error
        form.form_errors = [_come_back_in(error.retry_after or 0)]
        g.too_many = error
    else:
        field: Field = form[error.field] if error.field in form else next(iter(form))
        field.errors = [*field.errors, said(error)]


async def show(template: str, form: Form, **context: Any) -> Response:
    """The page with the form in it, and a status that says whether something is wrong with it."""
    answer = await make_response(await render_template(template, form=form, **context), _status(form))
    if "too_many" in g:
        answer.headers["Retry-After"] = str(g.too_many.retry_after)
    return cast(Response, answer)


async def say(sentence: str, category: str) -> None:
    """Tell the person on the next page, once: a script that never looks at one must not fill its cookie."""
    if (category, sentence) not in [tuple(each) for each in session.get("_flashes", [])]:
        await flash(sentence, category)


def _status(form: Form) -> HTTPStatus:
    if "too_many" in g:
        return answer_to(g.too_many).status
    if form_is_old():
        return HTTPStatus.FORBIDDEN
    return HTTPStatus.UNPROCESSABLE_ENTITY if form.errors or form.form_errors else HTTPStatus.OK


def _come_back_in(seconds: int) -> str:
    if seconds < LONGEST_IN_SECONDS:
        # Not one: the sentence has no singular.
        return gettext("That was too often. Please try again in %(seconds)s seconds.", seconds=max(seconds, 2))
    return gettext("That was too often. Please try again in about %(minutes)s minutes.", minutes=ceil(seconds / 60))


async def _token_is_right() -> bool:
    sent = request.headers.get("X-CSRFToken") or (await request.form).get(TOKEN, "")
    kept = session.get(TOKEN, "")
    return bool(kept) and hmac.compare_digest(sent.encode(), kept.encode())

"""WTForms with a CSRF token, checked for every state-changing request before its view runs.

A browser has a random persistent cookie. A token names its owner, the user whose form it is (0: signed out), and
authenticates that name for one browser with the secret key. It is sent in the field ``csrf_token`` or the header
``X-CSRFToken``, and stays valid for the life of the cookie. A form that is refused is shown again with its text.
"""

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from datetime import timedelta
from math import ceil
from typing import Any, TypeVar, cast

from quart import Quart, Response, current_app, g, make_response, request
from quart.typing import RouteCallable
from wtforms import Form
from wtforms.fields.core import Field

from microblog_rt import security_log
from microblog_rt.errors import (
    Forbidden,
    Invalid,
    InvalidText,
    OtherAccount,
    Refused,
    SignedOut,
    TokenMissing,
    TokenWrong,
    TooMany,
)
from microblog_rt.secret_key import mac
from microblog_rt.settings import Settings
from microblog_rt.text import is_storable
from microblog_rt.web.authentication import current_user
from microblog_rt.web.hosts import check_origin
from microblog_rt.web.languages import gettext, translated
from microblog_rt.web.problems import SAFE, headers_of, status_of, wants_json
from microblog_rt.web.templates import render_template

LONGEST_IN_SECONDS = 90
TOKEN = "csrf_token"  # noqa: S105
TOKEN_FORMAT = re.compile(r"((0|[1-9][0-9]{0,18})\.[\w-]{8})\.[\w-]{43}", re.ASCII)
BROWSER_FORMAT = re.compile(r"[\w-]{22}", re.ASCII)
BROWSER_LIFETIME = timedelta(days=365)

F = TypeVar("F", bound=Form)


def init(app: Quart, settings: Settings, cookie_name: str, attributes: dict[str, Any]) -> None:
    """Check the origin, token and text of every state-changing request to ``app``. See also: ``check_owner``."""
    app.config["BROWSER_COOKIE_NAME"] = cookie_name

    @app.before_request
    async def protect() -> None:
        if request.method in SAFE:
            return
        if request.routing_exception is not None:
            raise request.routing_exception
        try:
            check_origin(request.scope["headers"], settings.public_url, required=True)
        except Forbidden as error:
            _log_refusal("origin_refused", error)
            raise
        try:
            g.owner = await _checked_owner()
        except Forbidden as error:
            _log_refusal("csrf_refused", error)
            if wants_json() or not _view("redisplays_form"):
                raise
            refuse_form(error)

    @app.before_request
    async def check_text() -> None:
        if request.method not in SAFE:
            for field, text in (await request.form).items(multi=True):
                if not (is_storable(field) and is_storable(text)):
                    raise InvalidText

    @app.after_request
    async def keep_browser(response: Response) -> Response:
        if "new_browser" in g:
            response.set_cookie(cookie_name, g.new_browser, max_age=BROWSER_LIFETIME, **attributes)
        return response

    @app.context_processor
    async def token() -> dict[str, Any]:
        return {TOKEN: csrf_token}


async def check_owner() -> None:
    """Refuse a form of another account than the one signed in; runs after authentication.

    Without a session the view decides.
    """
    current, owner = current_user(), g.get("owner")
    if owner is None or not current.signed_in or owner == current.id or _view("any_owner"):
        return
    error: Forbidden = OtherAccount(name=current.username) if owner else TokenWrong()
    _log_refusal("csrf_refused", error)
    if wants_json() or not _view("resend"):
        raise error
    refuse_form(error)


def _log_refusal(event: str, error: Forbidden) -> None:
    headers = {"origin": request.headers.get("Origin"), "site": request.headers.get("Sec-Fetch-Site")}
    current = current_user()
    security_log.note(
        event,
        reason=error.code,
        path=request.path,
        user_id=current.id if current.signed_in else None,
        **(headers if event == "origin_refused" else {}),
    )


def csrf_token(owner: int | None = None) -> str:
    """A token of this browser for a form of ``owner``, by default the current user; creates the cookie if missing."""
    if owner is None:
        owner = _current_owner()
    return new_token(str(current_app.secret_key), browser_id(), owner)


def new_token(key: str, browser: str, owner: int) -> str:
    """A token for the cookie ``browser``. Each differs, so that no compressed page reveals one (BREACH)."""
    return _signed(key, browser, f"{owner}.{secrets.token_urlsafe(6)}")


def browser_id() -> str:
    """The random id in this browser's cookie, which is created if missing."""
    return _browser() or _new_browser()


def renew_browser_cookie() -> None:
    """Set this browser's cookie again, for another year."""
    g.new_browser = browser_id()


def redisplays_form(*, any_owner: bool = False, **resend: str | None) -> Callable[[RouteCallable], RouteCallable]:
    """Mark a view that checks ``submitted`` before it changes anything, and otherwise shows its form again.

    ``any_owner``: it may be submitted under every account. ``resend`` names the fields that the error page offers to
    send again after Unavailable: each with its label, or None for a hidden field.
    """

    def mark(view: RouteCallable) -> RouteCallable:
        vars(view).update(redisplays_form=True, any_owner=any_owner, resend=resend)
        return view

    return mark


def any_owner(view: RouteCallable) -> RouteCallable:
    """Mark a view whose form may be submitted under every account."""
    vars(view).update(any_owner=True)
    return view


def refuse_form(error: Refused) -> None:
    """Make ``submitted`` false for the form of this request, and ``error`` decide the status of its page."""
    g.refusal = error


async def bind_form(kind: type[F]) -> F:
    """The form with the submitted data, if any."""
    return kind(await request.form if request.method == "POST" else None)


def submitted(form: Form) -> bool:
    """Whether the form was submitted, is not refused, and passes its validators."""
    if request.method != "POST":
        return False
    if "refusal" in g:
        form.form_errors = _refusal_sentences(g.refusal)
        return False
    return form.validate()


def add_error(form: Form, error: Invalid | TooMany) -> None:
    """Show an error beside its field, or above the form; raises it again for a program."""
    if wants_json():
        raise error
    if isinstance(error, TooMany):
        form.form_errors = [_retry_sentence(error.retry_after or 0)]
        refuse_form(error)
    else:
        field: Field = form[error.field] if error.field in form else next(iter(form))
        field.errors = [*field.errors, translated(error)]


async def render_form(template: str, form: Form, **context: Any) -> Response:
    """The page with the form; its status says whether the form was refused or has errors."""
    page = await render_template(template, form=form, owner=_form_owner(), **context)
    refusal = g.get("refusal") or (Invalid("", "invalid") if form.errors or form.form_errors else None)
    if refusal is None:
        return cast(Response, await make_response(page))
    answer = await make_response(page, status_of(refusal).status)
    answer.headers.update(headers_of(refusal, request.root_path))
    return cast(Response, answer)


def _form_owner() -> int:
    """Whose form the page shows: one that its owner cannot send now stays the owner's."""
    keeps = isinstance(g.get("refusal"), OtherAccount | SignedOut)
    return int(g.get("owner", 0)) if keeps else _current_owner()


def _current_owner() -> int:
    current = current_user()
    return current.id if current.signed_in else 0


def _refusal_sentences(error: Refused) -> list[str]:
    """The sentences above a form that is shown again; the page of a signed-out user has its own."""
    if isinstance(error, SignedOut):
        return []
    if isinstance(error, OtherAccount):
        return [translated(OtherAccount("text_of_other_account", **error.values))]
    if isinstance(error, TokenMissing) and _view("any_owner") and not _browser():
        return [translated(TokenMissing("cookies_needed"))]
    return [translated(TokenWrong("text_expired" if _view("resend") else "form_expired"))]


def _retry_sentence(seconds: int) -> str:
    if seconds < LONGEST_IN_SECONDS:
        # At least 2: the sentence has no singular.
        return gettext("Too many attempts. Try again in %(seconds)s seconds.", seconds=max(seconds, 2))
    return gettext("Too many attempts. Try again in about %(minutes)s minutes.", minutes=ceil(seconds / 60))


def _view(mark: str) -> Any:
    """What ``redisplays_form`` has set on the view of the current request."""
    return getattr(current_app.view_functions.get(request.endpoint or ""), mark, None)


async def _checked_owner() -> int:
    """The owner in the request's token; raises TokenMissing or TokenWrong."""
    sent = request.headers.get("X-CSRFToken") or (await request.form).get(TOKEN, "")
    keys = [str(current_app.secret_key), *current_app.config["SECRET_KEY_FALLBACKS"]]
    return owner_in(sent, _browser(), keys)


def owner_in(token: str, browser: str, keys: Iterable[str]) -> int:
    """The owner in a token for the cookie ``browser``, signed with any of ``keys``.

    Raises TokenMissing if either is empty, TokenWrong.
    """
    if not token or not browser:
        raise TokenMissing
    match = TOKEN_FORMAT.fullmatch(token)
    if match is None or not any(hmac.compare_digest(_signed(key, browser, match[1]), token) for key in keys):
        raise TokenWrong
    return int(match[2])


def _signed(key: str, browser: str, named: str) -> str:
    digest = mac(key, "csrf", browser, named)
    return f"{named}.{urlsafe_b64encode(digest).decode().rstrip('=')}"


def _browser() -> str:
    """The content of this browser's cookie; "" if it sent none."""
    return browser_in(request.cookies.get(current_app.config["BROWSER_COOKIE_NAME"], ""))


def browser_in(cookie: str) -> str:
    """The id in the content of a browser's cookie; "" if it is malformed."""
    return cookie if BROWSER_FORMAT.fullmatch(cookie) else ""


def _new_browser() -> str:
    if "new_browser" not in g:
        g.new_browser = secrets.token_urlsafe(16)
    return str(g.new_browser)

"""Requests that the push edge answers without Hypercorn and Quart: writes to the API, and messages sent by form.

Quart, Hypercorn and their tasks take two thirds of a send's time (measured). Of forms, the common case is answered: a
valid one of a signed-in user. Every other is answered by Quart, to which the edge then passes the request.
See also: ``messages.py`` and ``forms.py``, which have the same rules for every request.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from markupsafe import escape
from werkzeug.http import parse_cookie

from microblog_rt import security_log
from microblog_rt.accounts import Reader
from microblog_rt.errors import Refused
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.text import is_storable
from microblog_rt.web.admission import Admission, Answer, Headers, Scope
from microblog_rt.web.api import PREFIX as API
from microblog_rt.web.api import Api
from microblog_rt.web.authentication import Authentication
from microblog_rt.web.flashes import Flashes
from microblog_rt.web.forms import TOKEN, browser_in, owner_in
from microblog_rt.web.hosts import check_origin, values
from microblog_rt.web.languages import language_for
from microblog_rt.web.messages import NONCE, SENT, anchor
from microblog_rt.web.preferences import preferences_in
from microblog_rt.web.problems import prefers_json

FORM = "application/x-www-form-urlencoded"
PREFIXES = ("/send_message/", API)
FIELDS = {TOKEN, "message", "nonce", "submit"}
UNUSUAL = {b"authorization", b"idempotency-key", b"x-csrftoken"}


class Submitted(NamedTuple):
    """A form that may be sent."""

    reader: Reader
    recipient: str
    message: str
    nonce: str


class Direct:
    """Answers POST requests whose path begins with one of ``PREFIXES``."""

    def __init__(self, forms: "FormSends", api: Api) -> None:
        self._forms = forms
        self._api = api

    async def answer(self, scope: Scope, body: bytes) -> Answer | None:
        """The answer; None, and nothing has changed, if Quart must answer."""
        if not scope["path"].startswith(API):
            return await self._forms.answer(scope, body)
        return None if "%" in scope["path"] else await self._api.respond({**scope, "method": "POST"}, body)


class FormSends:
    """Sends messages for forms."""

    def __init__(
        self,
        admission: Admission,
        authentication: Authentication,
        flashes: Flashes,
        browser_cookie: str,
        preferences_cookie: str,
        secret_keys: Sequence[str],
        headers: Headers,
        services: Services,
        settings: Settings,
    ) -> None:
        self._admission = admission
        self._authentication = authentication
        self._flashes = flashes
        self._browser_cookie = browser_cookie
        self._preferences_cookie = preferences_cookie
        self._secret_keys = secret_keys
        self._headers = headers
        self._services = services
        self._public_url = settings.public_url
        self._prefix = settings.path_prefix

    async def answer(self, scope: Scope, body: bytes) -> Answer | None:
        """The redirect after the commit of a send; None, and nothing has changed, if Quart must answer."""
        try:
            cookies = parse_cookie("; ".join(values(scope["headers"], b"cookie")))
            form = self._submitted(scope, body, cookies)
            security_log.origin.set(self._admission.address(scope))
            session = self._services.sessions.use(form.reader, _navigates(scope))
            text, sender_id = form.message, form.reader.user_id
            name = await self._services.messages.attempt(sender_id, form.recipient, text, form.nonce, session)
        except (Refused, ValueError):
            return None
        return self._redirect(scope, cookies, name, form.nonce) if name is not None else None

    def _submitted(self, scope: Scope, body: bytes, cookies: dict[str, str]) -> Submitted:
        """The form in a request; raises Refused or ValueError for one that Quart must answer."""
        self._admission.check(scope)
        check_origin(scope["headers"], self._public_url, required=True)
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
        form = dict(fields)
        recipient = unquote(scope["path"].removeprefix(PREFIXES[0]), errors="strict")
        nonce = form.get("nonce", "")
        usual = (
            values(scope["headers"], b"content-type") == [FORM]
            and not (scope["query_string"] or any(name in UNUSUAL for name, _ in scope["headers"]))
            and len(form) == len(fields)
            and FIELDS.issuperset(form)
            and is_storable(form.get("message", "") + recipient)
            and "/" not in recipient
            and NONCE.fullmatch(nonce)
        )
        reader = self._authentication.reader_in(cookies)
        if not usual or reader is None:
            raise ValueError
        browser = browser_in(cookies.get(self._browser_cookie, ""))
        if owner_in(form.get(TOKEN, ""), browser, self._secret_keys) != reader.user_id:
            raise ValueError
        return Submitted(reader, recipient, form.get("message", ""), nonce)

    def _redirect(self, scope: Scope, cookies: dict[str, str], name: str, nonce: str) -> Answer:
        accept, mode, language = (_first(scope, each) for each in (b"accept", b"sec-fetch-mode", b"accept-language"))
        fragment = "" if prefers_json(accept or "", mode, "POST") else f"#{anchor(nonce)}"
        location = f"{self._prefix}/user/{quote(name)}{fragment}"
        chosen = preferences_in(cookies.get(self._preferences_cookie, "")).language
        sentence = language_for(chosen, language or "").catalogue.ugettext(SENT)
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"location", location.encode()),
            (b"set-cookie", self._flashes.cookie_with(cookies, sentence, "success").encode()),
            *self._headers,
        ]
        body = f'<!doctype html>\n<title>Sent</title>\n<a href="{escape(location)}">{escape(sentence)}</a>\n'
        return Answer(HTTPStatus.SEE_OTHER, headers, body.encode())


def _navigates(scope: Scope) -> bool:
    return _first(scope, b"sec-fetch-mode") in (None, "navigate")


def _first(scope: Scope, name: bytes) -> str | None:
    return next(iter(values(scope["headers"], name)), None)

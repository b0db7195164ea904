"""Authentication: quart-auth's signed cookie with a user id and a session token, an access token, or a signed token.

Both name the user, so that a tab can subscribe before it reads; every read checks the credential in the database.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache, wraps
from hashlib import sha512
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import quote

from itsdangerous import URLSafeTimedSerializer
from quart import Quart, Response, current_app, redirect, request, url_for
from quart.typing import RouteCallable
from quart_auth import Action, AuthUser, QuartAuth
from werkzeug.http import parse_cookie

from microblog_rt import protocol
from microblog_rt.accounts import Accounts, Reader, Sessions, SiteUsers, token_hash
from microblog_rt.errors import SignedOut, SubjectUnknown
from microblog_rt.models import User
from microblog_rt.storage.accounts import Visit
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.web.problems import wants_json

# Need no user, and work while the database is down.
ANONYMOUS = {"static", "health.alive", "health.ready", "metrics.numbers"}

COOKIES_CACHED = 10_000
LONGEST_CACHED = 1024  # bytes of a Cookie header
LONGEST_COOKIE = 300  # characters; a valid one has about 180

BEARER = b"bearer "

Headers = Iterable[tuple[bytes, bytes]]


class CurrentUser(AuthUser):
    """The user of a request; signed in if ``visit`` is set."""

    reader: Reader | None = None
    visit: Visit | None = None

    @property
    def signed_in(self) -> bool:
        return self.visit is not None

    @property
    def user(self) -> User:
        """The user; raises SignedOut if there is none."""
        if self.visit is None:
            raise SignedOut
        return self.visit.user

    @property
    def id(self) -> int:
        """The user's id; raises SignedOut if there is none."""
        if self.visit is None:
            raise SignedOut
        return self.visit.user_id

    @property
    def username(self) -> str:
        if self.visit is None:
            raise SignedOut
        return self.visit.username

    @property
    def unread_message_count(self) -> int:
        return self.visit.counters[UNREAD_MESSAGES.name] if self.visit else 0

    @property
    def cursor(self) -> str:
        """The cursor that belongs to the count, as in a page's ``data-since``."""
        return protocol.seconds(self.visit.cursor) if self.visit else "0"


class AgelessSerializer(URLSafeTimedSerializer):
    """Signs session cookies as quart-auth does, and accepts a signature of any age.

    Whether the session lives is in the database: a host whose clock was set back must not sign anybody out.
    """

    def __init__(self, keys: Any, salt: Any) -> None:
        super().__init__(keys, salt, signer_kwargs={"digest_method": sha512})

    def loads(self, *args: Any, **options: Any) -> Any:
        return super().loads(*args, **options | {"max_age": None})


class Authentication(QuartAuth):
    """quart-auth with revocable sessions; ``authenticate`` serves every transport."""

    user_class = CurrentUser
    serializer_class = AgelessSerializer  # type: ignore[assignment]

    def __init__(
        self,
        app: Quart,
        accounts: Accounts,
        sessions: Sessions,
        site_users: SiteUsers,
        cookie_name: str,
        cookie: dict[str, Any],
    ) -> None:
        self.site_users = site_users
        self._app = app
        self._accounts = accounts
        self._sessions = sessions
        # A valid cookie's content never changes; whether its session is live is checked in the database.
        self._cached = lru_cache(maxsize=COOKIES_CACHED)(self._verified)
        # The same for a whole Cookie header: parsing one takes longer than all other checks of a poll.
        self._cached_header = lru_cache(maxsize=COOKIES_CACHED)(self._in_header)
        # Not a singleton: quart-auth's context processor is synchronous, which would cost a thread per page.
        super().__init__(
            app,
            cookie_name=cookie_name,
            cookie_path=cookie["path"],
            cookie_secure=cookie["secure"],
            cookie_http_only=cookie["httponly"],
            cookie_samesite=cookie["samesite"],
            duration=sessions.lifetime,
            salt="microblog-rt session",
            singleton=False,
        )
        app.extensions["authentication"] = self
        app.before_request(self._load)
        app.context_processor(self._current_user)

    def authenticate(self, headers: Headers) -> Reader:
        """The reader in a request's access token or else in its cookie, without I/O.

        Raises TokenEnded for a text that is no token, SignedOut without a valid cookie, SubjectUnknown. The cookies of
        a request with a token are ignored.
        """
        token = bearer_token(headers)
        if token is not None:
            return self.site_users.reader(token)
        sent = b"; ".join([value for name, value in headers if name.lower() == b"cookie"])
        return self._cached_header(sent) if len(sent) <= LONGEST_CACHED else self._in_header(sent)

    async def authenticated(self, headers: Headers) -> Reader:
        """The same; a user of another site who is new here gets an account. Raises SubjectInvalid, SubjectTaken."""
        try:
            return self.authenticate(headers)
        except SubjectUnknown as unknown:
            await self.site_users.ensure_account(unknown.subject)
        return self.authenticate(headers)

    def _in_header(self, sent: bytes) -> Reader:
        reader = self.reader_in(parse_cookie(sent.decode("ascii", "ignore")))
        if reader is None:
            raise SignedOut
        return reader

    def resolve_user(self) -> CurrentUser:
        current = CurrentUser(None)
        current.reader = self.reader_in(request.cookies)
        return current

    async def sign_in(self, user: User, *, remembered: bool) -> None:
        """Start a session for this browser and end its previous one."""
        device = request.headers.get("User-Agent", "")
        token = await self._sessions.start_session(user, remembered=remembered, device=device)
        await self._end(self.current.reader)
        self._set_cookie(user, token, remembered=remembered)

    async def reauthenticate(self, password: str) -> None:
        """Check the user's current password. Raises TooMany, Invalid."""
        await self._accounts.reauthenticate(self._visit(), password)

    async def change_password(self, old: str, new: str) -> None:
        """Change the user's password, end all sessions, and start a new one for this browser."""
        visit = self._visit()
        token = await self._accounts.change_password(visit, old, new)
        self._set_cookie(visit.user, token, remembered=visit.session.remembered)

    async def sign_out(self) -> None:
        """End this browser's session, and delete its cookie."""
        await self._end(self.current.reader)
        self.logout_user()

    async def sign_out_everywhere(self) -> None:
        """End every session of the user, and delete the cookie."""
        await self._sessions.end_sessions(self.current.id)
        self.logout_user()

    @property
    def current(self) -> CurrentUser:
        return cast(CurrentUser, self.load_user())

    def _visit(self) -> Visit:
        if self.current.visit is None:
            raise SignedOut
        return self.current.visit

    def reader_in(self, cookies: Mapping[str, str]) -> Reader | None:
        """The reader in a request's cookies; None without a valid one."""
        cookie = cookies.get(cast(str, self.cookie_name), "")
        try:
            return self._cached(cookie) if 0 < len(cookie) <= LONGEST_COOKIE else None
        except SignedOut:
            return None

    def _verified(self, cookie: str) -> Reader:
        # Raises instead of returning None, so that invalid cookies are not cached.
        user_id, _, token = (self.load_token(cookie, self._app) or "").partition(".")
        if not token:
            raise SignedOut
        return Reader(int(user_id), token_hash(token))

    def _set_cookie(self, user: User, token: str, *, remembered: bool) -> None:
        action = Action.WRITE_PERMANENT if remembered else Action.WRITE
        self.login_user(CurrentUser(f"{user.id}.{token}", action))

    async def _end(self, reader: Reader | None) -> None:
        if reader is not None and await self._sessions.visit(reader):
            await self._sessions.end_session(reader)

    async def _load(self) -> None:
        current = self.current
        if current.reader is None or request.endpoint in ANONYMOUS:
            return
        current.visit = await self._sessions.visit(current.reader)
        if current.visit is None:
            current.action = Action.DELETE
        elif request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate":
            # Requests that a page makes by itself do not keep a session alive.
            await self._sessions.note_use(current.reader, current.visit.last_used)

    async def _current_user(self) -> dict[str, Any]:
        return {"current_user": self.current}


def bearer_token(headers: Headers) -> str | None:
    """The token in ``Authorization: Bearer``; None without that scheme, "" for several."""
    sent = [value for name, value in headers if name == b"authorization" or name.lower() == b"authorization"]
    tokens = [value[len(BEARER) :] for value in sent if value[: len(BEARER)].lower() == BEARER]
    if not tokens:
        return None
    return tokens[0].strip().decode("ascii", "replace") if len(sent) == 1 else ""


def authentication() -> Authentication:
    """The Authentication of the application that answers the current request."""
    return cast(Authentication, current_app.extensions["authentication"])


def current_user() -> CurrentUser:
    """The user of the current request."""
    return authentication().current


def current_reader() -> Reader:
    """The reader of the current request; raises SignedOut."""
    current = current_user()
    if current.reader is None or not current.signed_in:
        raise SignedOut
    return current.reader


def address() -> str:
    """The client's address of the current request; "" if unknown."""
    client = request.scope.get("client")
    return client[0] if client else ""


def signed_in(view: RouteCallable) -> RouteCallable:
    """Require a signed-in user: redirect to the sign-in page and back, or 401 for a JSON client."""

    @wraps(view)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        if current_user().signed_in:
            return await view(*args, **kwargs)  # type: ignore[misc]
        if wants_json():
            raise SignedOut
        return redirect_to_login()

    return guarded


def redirect_to_login() -> Response:
    """Redirect to the sign-in page, which leads to the requested page afterwards if that is not a form's target."""
    target = None
    if request.method == "GET":
        target = quote(request.root_path + request.path) + (
            f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
        )
    return cast(Response, redirect(url_for("auth.login", next=target), HTTPStatus.SEE_OTHER))

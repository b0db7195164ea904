"""Who is asking: quart-auth's signed cookie around a session token that only the database believes.

The cookie says whose session it claims to be, so that a tab can listen before it reads; whether the session
lives is looked up by every read. Not here: sessions themselves (``accounts/``).
"""

from collections.abc import Iterable
from functools import lru_cache, wraps
from http import HTTPStatus
from typing import Any, cast

from quart import Quart, Response, current_app, redirect, request, url_for
from quart.typing import RouteCallable
from quart_auth import Action, AuthUser, QuartAuth
from werkzeug.http import parse_cookie

from microblog_rt import protocol
from microblog_rt.accounts import Accounts, Reader, Sessions, token_hash
from microblog_rt.errors import SignedOut
from microblog_rt.models import User
from microblog_rt.storage.accounts import Visit
from microblog_rt.storage.counters import UNREAD_MESSAGES
from microblog_rt.web.problems import wants_json

# Answered to whoever asks, whoever that is: also where the database is away.
NOBODYS = {"static", "health.alive", "health.ready", "metrics.numbers"}

COOKIES_KNOWN = 10_000
LONGEST_COOKIE = 300  # characters; ours have some 180

Headers = Iterable[tuple[bytes, bytes]]


class CurrentUser(AuthUser):
    """Whoever asks for a page; signed in once ``visit`` is there."""

    reader: Reader | None = None
    visit: Visit | None = None

    @property
    def signed_in(self) -> bool:
        return self.visit is not None

    @property
    def user(self) -> User:
        """The user; raises SignedOut where there is none."""
        if self.visit is None:
            raise SignedOut
        return self.visit.user

    @property
    def username(self) -> str:
        return self.user.username

    @property
    def unread_message_count(self) -> int:
        return self.visit.counters[UNREAD_MESSAGES.name] if self.visit else 0

    @property
    def cursor(self) -> str:
        """The cursor that goes with the count, as a page carries it."""
        return protocol.seconds(self.visit.cursor) if self.visit else "0"


class Authentication(QuartAuth):
    """quart-auth with sessions that end: ``authenticate`` is the same for every transport."""

    user_class = CurrentUser

    def __init__(self, app: Quart, accounts: Accounts, sessions: Sessions, *, secure: bool) -> None:
        self._app = app
        self._accounts = accounts
        self._sessions = sessions
        # What a good cookie says never changes; only the database says whether its session lives.
        self._known = lru_cache(maxsize=COOKIES_KNOWN)(self._verified)
        # Not a singleton: quart-auth's own context processor is synchronous, and so costs a thread a page.
        super().__init__(
            app,
            cookie_name="__Host-microblog_session" if secure else "microblog_session",
            cookie_secure=secure,
            duration=sessions.lifetime,
            salt="microblog-rt session",
            singleton=False,
        )
        app.extensions["authentication"] = self
        app.before_request(self._load)
        app.context_processor(self._current_user)

    def authenticate(self, headers: Headers) -> Reader:
        """Whom a request's headers claim to be of, without I/O; raises SignedOut where of nobody."""
        sent = b"; ".join(value for name, value in headers if name.lower() == b"cookie")
        reader = self._reader(parse_cookie(sent.decode("ascii", "ignore")).get(cast(str, self.cookie_name), ""))
        if reader is None:
            raise SignedOut
        return reader

    def resolve_user(self) -> CurrentUser:
        visitor = CurrentUser(None)
        cookie = request.cookies.get(cast(str, self.cookie_name), "")
        visitor.reader = self._reader(cookie)
        if cookie and visitor.reader is None:
            visitor.action = Action.DELETE
        return visitor

    async def sign_in(self, user: User, *, remembered: bool) -> None:
        """Begin a session for this browser, in place of the one it had."""
        device = request.headers.get("User-Agent", "")
        token = await self._sessions.start_session(user, remembered=remembered, device=device)
        await self._end(self.current.reader)
        self._hand_out(user, token, remembered=remembered)

    async def change_password(self, old: str, new: str) -> None:
        """Change the user's password: all sessions end, and this browser has a new one."""
        visit = self.current.visit
        if visit is None:
            raise SignedOut
        token = await self._accounts.change_password(visit, old, new, address())
        self._hand_out(visit.user, token, remembered=visit.session.remembered)

    async def sign_out(self) -> None:
        """End this browser's session, here and on the server."""
        await self._end(self.current.reader)
        self.logout_user()

    async def sign_out_everywhere(self) -> None:
        """End every session of the user, and so this browser's."""
        await self._sessions.end_sessions(self.current.user.id)
        self.logout_user()

    @property
    def current(self) -> CurrentUser:
        return cast(CurrentUser, self.load_user())

    def _reader(self, cookie: str) -> Reader | None:
        try:
            return self._known(cookie) if 0 < len(cookie) <= LONGEST_COOKIE else None
        except SignedOut:
            return None

    def _verified(self, cookie: str) -> Reader:
        # Raises, for what is no cookie of ours must not take up the memory of those that are.
        user_id, _, token = (self.load_token(cookie, self._app) or "").partition(".")
        if not token:
            raise SignedOut
        return Reader(int(user_id), token_hash(token))

    def _hand_out(self, user: User, token: str, *, remembered: bool) -> None:
        action = Action.WRITE_PERMANENT if remembered else Action.WRITE
        self.login_user(CurrentUser(f"{user.id}.{token}", action))

    async def _end(self, reader: Reader | None) -> None:
        if reader is not None and await self._sessions.visit(reader):
            await self._sessions.end_session(reader)

    async def _load(self) -> None:
        visitor = self.current
        if visitor.reader is None or request.endpoint in NOBODYS:
            return
        visitor.visit = await self._sessions.visit(visitor.reader)
        if visitor.visit is None:
            visitor.action = Action.DELETE
        else:
            await self._sessions.note_use(visitor.reader, visitor.visit.last_used)

    async def _current_user(self) -> dict[str, Any]:
        return {"current_user": self.current}


def authentication() -> Authentication:
    """The application's authentication, from inside a request."""
    return cast(Authentication, current_app.extensions["authentication"])


def current_user() -> CurrentUser:
    """Whoever asks for the present page."""
    return authentication().current


def current_reader() -> Reader:
    """The same as a reader; raises SignedOut where nobody is signed in."""
    visitor = current_user()
    if visitor.reader is None or not visitor.signed_in:
        raise SignedOut
    return visitor.reader


def address() -> str:
    """Where the present request comes from; empty where that is not known."""
    client = request.scope.get("client")
    return client[0] if client else ""


def signed_in(view: RouteCallable) -> RouteCallable:
    """A page for people who are signed in; others are shown the way, and come back afterwards."""

    @wraps(view)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        if current_user().signed_in:
            return await view(*args, **kwargs)  # type: ignore[misc]
        if wants_json():
            raise SignedOut
        return way_in(request.full_path if request.method == "GET" else None)

    return guarded


def way_in(target: str | None) -> Response:
    """The sign-in page, and from there to the page ``target``."""
    target = target and target.rstrip("?")
    return cast(Response, redirect(url_for("auth.login", next=target), HTTPStatus.SEE_OTHER))

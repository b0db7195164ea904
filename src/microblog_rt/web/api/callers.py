"""Who calls the API: the owner of an access token, or of a session whose page sends its CSRF token."""

from collections.abc import Sequence
from typing import NamedTuple

from werkzeug.http import parse_cookie

from microblog_rt import security_log
from microblog_rt.accounts import Reader
from microblog_rt.errors import Forbidden, OtherAccount, ScopeMissing, SignedOut, TokenEnded, TokenWrong
from microblog_rt.models import PUBLISH_NOTIFICATIONS
from microblog_rt.services import Services
from microblog_rt.settings import Settings
from microblog_rt.web.api.body import ApiRequest
from microblog_rt.web.authentication import Authentication, bearer_token
from microblog_rt.web.forms import browser_in, owner_in
from microblog_rt.web.origins import Origins
from microblog_rt.web.problems import SAFE


class Caller(NamedTuple):
    """A user who calls, with a live credential; ``token_id`` is None for a session."""

    user_id: int
    username: str
    reader: Reader
    token_id: str | None


class Callers:
    """Authenticates and authorizes requests."""

    def __init__(
        self,
        authentication: Authentication,
        services: Services,
        settings: Settings,
        secret_keys: Sequence[str],
        browser_cookie: str,
    ) -> None:
        self._authentication = authentication
        self._services = services
        self._origins = Origins(settings)
        self._keys = secret_keys
        self._browser_cookie = browser_cookie

    async def caller(self, request: ApiRequest, scope: str | None) -> Caller:
        """The caller, who may do what ``scope`` allows. Raises SignedOut, Forbidden, Unavailable."""
        bearer, changes = bearer_token(request.headers) is not None, request.method not in SAFE
        try:
            self._origins.check(request.headers)
            if bearer:
                return await self._owner(request, scope)
            caller = await self._visitor(request)
            if changes:
                self._origins.check(request.headers, required=True)
                self._check_csrf(request, caller)
        except Forbidden as error:
            security_log.note("api_refused", address=request.address, reason=error.reason, path=request.path)
            raise
        if scope == PUBLISH_NOTIFICATIONS:
            raise Forbidden("session_cannot_publish", scope=scope)
        return caller

    async def _owner(self, request: ApiRequest, scope: str | None) -> Caller:
        reader = await self._authentication.authenticated(request.headers)
        visit = await self._services.tokens.visit(reader)
        if visit is None:
            raise reader.ended
        self._services.tokens.note_use(reader)
        if scope is not None and scope not in visit.scopes.split(" "):
            raise ScopeMissing(scope)
        return Caller(visit.user_id, visit.username, reader, visit.token_id)

    async def _visitor(self, request: ApiRequest) -> Caller:
        try:
            reader = self._authentication.authenticate(request.headers)
        except SignedOut:
            raise TokenEnded("credential_missing") from None
        visit = await self._services.sessions.visit(reader)
        if visit is None:
            raise SignedOut
        return Caller(visit.user_id, visit.username, reader, None)

    def _check_csrf(self, request: ApiRequest, caller: Caller) -> None:
        sent = (request.values(b"x-csrftoken") or [""])[0]
        browser = browser_in(parse_cookie("; ".join(request.values(b"cookie"))).get(self._browser_cookie, ""))
        owner = owner_in(sent, browser, self._keys)
        if owner != caller.user_id:
            raise OtherAccount(name=caller.username) if owner else TokenWrong()

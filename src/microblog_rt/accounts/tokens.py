"""Access tokens: create, look up, note the use of, list, revoke.

A token is ``mbrt_<user id>_<secret>``. It names its user, so that a program can subscribe before it reads; the database
holds the SHA-256 of the secret. Every read looks the token up again, as it does a session.
"""

import logging
import re
import secrets
from collections.abc import Callable, Collection, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from microblog_rt import security_log
from microblog_rt.accounts.sessions import Reader, Sessions, log_failure, token_hash
from microblog_rt.errors import Invalid, NotFound, TokenEnded
from microblog_rt.models import SCOPES, TOKEN_ID_LENGTH, TOKEN_NAME_LENGTH, AccessToken, User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.storage import Storage, Transaction, accounts, sql_time, tokens
from microblog_rt.storage.pages import Page
from microblog_rt.storage.tokens import TokenVisit

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

# The id has at most 18 digits, so that it fits into the database's integers.
TOKEN = re.compile(r"mbrt_([1-9][0-9]{0,17})_([\w-]{43})", re.ASCII)
OF_USER = 50
USE_STORED_EVERY = 60  # seconds
USES_REMEMBERED = 10_000


class Tokens:
    """Creates, looks up and revokes access tokens."""

    def __init__(
        self, storage: Storage, sessions: Sessions, refused: Callable[[Reader], None] = lambda _: None
    ) -> None:
        """``refused`` is called with the reader of a signed token that has ended or is of an unknown user."""
        self._storage = storage
        self._refused = refused
        self._sessions = sessions
        self._noted: dict[str, float] = {}  # when the use of a token was last stored, by the monotonic clock

    async def add(self, user: User, name: str, scopes: Collection[str], lasts: int | None = None) -> str:
        """Create a token that is valid for ``lasts`` seconds (None: forever), and return its text; only once.

        Raises Invalid for a name or a scope, for a disabled user, and if the user has too many.
        """
        name = "".join(each for each in name if each.isprintable()).strip()
        if not 1 <= len(name) <= TOKEN_NAME_LENGTH:
            raise Invalid("name", "token_name_length", limit=TOKEN_NAME_LENGTH)
        for scope in scopes:
            if scope not in SCOPES:
                raise Invalid("scopes", "token_scope_unknown", name=scope, known=", ".join(SCOPES))
        if not scopes:
            raise Invalid("scopes", "token_scope_missing")
        secret, token_id = secrets.token_urlsafe(32), secrets.token_hex(TOKEN_ID_LENGTH // 2)
        granted = " ".join(each for each in SCOPES if each in scopes)

        def work(tx: Transaction) -> None:
            if accounts.credentials(tx, user.id).disabled:
                raise Invalid("name", "account_disabled")
            tokens.forget_expired(tx, user.id)
            if tokens.count(tx, user.id) >= OF_USER:
                raise Invalid("name", "too_many_tokens", limit=OF_USER)
            columns = {"id": token_id, "user_id": user.id, "name": name, "scopes": granted}
            tokens.add(tx, None if lasts is None else lasts * MICROSECONDS, token_hash=token_hash(secret), **columns)

        await self._storage.write(work)
        security_log.note("token_created", user=user.username, user_id=user.id, token=token_id, scopes=granted)
        return f"mbrt_{user.id}_{secret}"

    async def of_user(self, user_id: int) -> Sequence[AccessToken]:
        """The user's live tokens, the newest first."""
        return (await self.page(user_id, OF_USER)).rows

    async def page(self, user_id: int, size: int, before: int | None = None) -> Page[AccessToken]:
        """Up to ``size`` live tokens of the user, the newest first: those created ``before`` a time, if given."""
        async with self._storage.reading() as reading:
            return await tokens.of_user(reading, user_id, size, before)

    async def visit(self, reader: Reader) -> TokenVisit | None:
        """The reader's token with its user; None if it has ended or is another user's."""
        if reader.jwt is not None:
            claims = reader.jwt
            live = claims.expires > sql_time.now() and await tokens.jwt_is_live(
                self._storage, reader.user_id, claims.subject, claims.issued
            )
            if not live:
                self._refused(reader)
                return None
            return TokenVisit(reader.user_id, claims.subject, "", claims.scopes)
        return await tokens.visit(self._storage, reader.user_id, reader.token_hash)

    async def revoke(self, user_id: int, token_id: str) -> bool:
        """End the user's token of that id, also on open streams; False if there was none."""
        ended: list[bool] = []
        await self._sessions.end(user_id, lambda tx: ended.append(tokens.end(tx, user_id, token_id)))
        if ended[-1]:
            security_log.note("token_revoked", user_id=user_id, token=token_id)
        return ended[-1]

    async def revoke_id(self, token_id: str) -> None:
        """End the token of that id, of whichever user. Raises NotFound."""
        async with self._storage.reading() as reading:
            user_id = await tokens.owner(reading, token_id)
        if user_id is None or not await self.revoke(user_id, token_id):
            raise NotFound("unknown_token", name=token_id)

    def note_use(self, reader: Reader) -> None:
        """Store that a token is used, at most once a minute, without waiting for that; of a signed one nothing."""
        if reader.jwt is not None:
            return
        now = monotonic()
        if now - self._noted.get(reader.token_hash, float("-inf")) < USE_STORED_EVERY:
            return
        if len(self._noted) >= USES_REMEMBERED:
            self._noted.clear()  # the database knows when each was used
        self._noted[reader.token_hash] = now
        work = partial(_note_use, reader.token_hash)
        self._storage.begin_write(work).add_done_callback(log_failure)


def reader_of(text: str) -> Reader:
    """The reader that a token names, without I/O. Raises TokenEnded for what cannot be a token."""
    found = TOKEN.fullmatch(text)
    if found is None:
        raise TokenEnded
    return Reader(int(found[1]), token_hash(found[2]), bearer=True)


def _note_use(hashed: str, tx: Transaction) -> None:
    tokens.note_use(tx, hashed, USE_STORED_EVERY * MICROSECONDS)

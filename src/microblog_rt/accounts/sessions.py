"""Sessions: start, look up, use, end. A browser holds a random token; the database holds its SHA-256.

Every read looks the session up again, so a session that has ended is useless everywhere.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from microblog_rt import security_log
from microblog_rt.errors import Invalid, JwtRefused, SignedOut, TokenEnded, Unavailable
from microblog_rt.jwts import Claims
from microblog_rt.mailboxes import Change, Mailboxes
from microblog_rt.models import DEVICE_LENGTH, READ_NOTIFICATIONS, Session, User
from microblog_rt.protocol import FURTHEST, MICROSECONDS
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, Transaction, accounts, sql_time
from microblog_rt.storage.accounts import Visit
from microblog_rt.storage.notifications import Kind, Page
from microblog_rt.storage.pages import Page as ListPage
from microblog_rt.storage.send import SessionUse
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

IDLE_UNLESS_REMEMBERED = 43_200 * MICROSECONDS
USE_STORED_EVERY = 60 * MICROSECONDS
RETRY_AFTER = 5.0  # seconds, when the database could not store a use


class Reader(NamedTuple):
    """A user and a token's hash, as a request's credential claims; every read checks the credential again.

    The token is a session's, or with ``bearer`` an access token, or one that another site has signed (``jwt``).
    """

    user_id: int
    token_hash: str
    bearer: bool = False
    jwt: Claims | None = None

    @property
    def kind(self) -> Kind:
        """The kind of credential, for the statement that checks it."""
        return Kind.JWT if self.jwt else Kind.TOKEN if self.bearer else Kind.SESSION

    @property
    def key(self) -> str:
        """What that statement finds the credential by."""
        return self.jwt.subject if self.jwt else self.token_hash

    def checked(self, page: Page | None) -> Page | None:
        """What the read of this reader has found; None if a signed token has expired or was revoked."""
        if page is None or self.jwt is None:
            return page
        if self.jwt.issued <= page.jwts_after or self.jwt.expires <= sql_time.now():
            return None
        return page._replace(expires=self.jwt.expires, allowed=READ_NOTIFICATIONS in self.jwt.scopes.split())

    @property
    def ended(self) -> SignedOut:
        """The error when the credential has ended."""
        if self.jwt is not None:
            return JwtRefused("it has expired or was revoked")
        return TokenEnded() if self.bearer else SignedOut()


class Sessions:
    """Starts, looks up and ends sessions."""

    def __init__(
        self, storage: Storage, mailboxes: Mailboxes, settings: Settings, timeouts: Timeouts = Timeouts()
    ) -> None:
        self._storage = storage
        self._mailboxes = mailboxes
        self._wait = timeouts.session_use
        self.lifetime = settings.session_lifetime  # seconds
        self._lifetime = settings.session_lifetime * MICROSECONDS
        idle = settings.session_idle * MICROSECONDS
        self._idle = {True: idle, False: min(idle, IDLE_UNLESS_REMEMBERED)}  # by "remembered"
        self._use_due = min(USE_STORED_EVERY, self._idle[False] // 4)
        self._retry_use = 0.0  # of the monotonic clock: the other one may be set back

    async def start_session(self, user: User, *, remembered: bool, device: str = "") -> str:
        """Start a session of a user whose password was checked, and return its token; only the hash is stored.

        ``device`` is the User-Agent. Raises Invalid if the password was changed or the user disabled meanwhile.
        """
        token = secrets.token_urlsafe(32)

        def work(tx: Transaction) -> None:
            password_hash, disabled, _ = accounts.credentials(tx, user.id)
            if password_hash != user.password_hash:
                raise Invalid("password", "wrong_password")
            if disabled:
                raise Invalid("username", "account_disabled")
            self.insert(tx, user.id, token, remembered, device)

        await self._storage.write(work)
        name = session_name(token_hash(token))
        security_log.note("signed_in", user=user.username, user_id=user.id, session=name)
        return token

    def insert(self, tx: Transaction, user_id: int, token: str, remembered: bool, device: str) -> None:
        """Insert the session of ``token``, and delete the user's expired ones."""
        lasts = min(self._idle[remembered], self._lifetime)
        device = "".join(each for each in device if each.isprintable())[:DEVICE_LENGTH]
        accounts.forget_expired(tx, user_id)
        accounts.add_session(tx, user_id, token_hash(token), remembered, lasts, device)

    async def visit(self, reader: Reader) -> Visit | None:
        """The reader's session with its user, counters and cursor; None if it has ended or is another user's."""
        return await accounts.visit(self._storage, reader.user_id, reader.token_hash)

    def use(self, reader: Reader, navigates: bool) -> SessionUse:
        """The reader's session as a send checks it: refused if the user ``navigates`` and that must be stored."""
        return SessionUse(reader.token_hash, self._use_due if navigates else FURTHEST)

    async def note_use(self, reader: Reader, last_used: int) -> None:
        """Store that a person uses a session, at most once a minute, and four times within the idle time.

        A failure is retried by a later use: it neither refuses nor delays the request by more than
        ``Timeouts.session_use``.
        """
        if not self.is_use_due(last_used) or monotonic() < self._retry_use:
            return
        storing = self._storage.begin_write(
            lambda tx: accounts.note_use(tx, reader.token_hash, self._idle, self._lifetime)
        )
        storing.add_done_callback(log_failure)
        await asyncio.wait({storing}, timeout=self._wait)
        if not storing.done() or storing.exception():
            self._retry_use = monotonic() + RETRY_AFTER

    def is_use_due(self, last_used: int) -> bool:
        """Whether a use now must be stored."""
        return sql_time.now() - last_used >= self._use_due

    async def sessions(
        self, reader: Reader, size: int, before: int | None = None, after: int | None = None
    ) -> ListPage[Session]:
        """Up to ``size`` live sessions of the user except the reader's, the newest first.

        Those that began ``before`` or ``after`` a time, if given.
        """
        async with self._storage.reading() as reading:
            return await accounts.sessions(reading, reader.user_id, reader.token_hash, size, before, after)

    async def all_sessions(self, user_id: int, size: int, before: int | None = None) -> ListPage[Session]:
        """Up to ``size`` live sessions of the user, the newest first: those that began ``before`` a time, if given."""
        async with self._storage.reading() as reading:
            return await accounts.sessions(reading, user_id, None, size, before, None)

    async def named(self, user_id: int, name: str) -> Session | None:
        """The user's live session with that ``session_name``."""
        async with self._storage.reading() as reading:
            return await accounts.session_named(reading, user_id, name)

    async def end_session(self, reader: Reader) -> None:
        """End one session."""
        await self.end(reader.user_id, lambda tx: accounts.end_session(tx, reader.token_hash))
        security_log.note("signed_out", user_id=reader.user_id, session=session_name(reader.token_hash))

    async def end_session_named(self, user_id: int, name: str) -> None:
        """End the user's session with that ``session_name``, if it has not ended already."""
        await self.end(user_id, lambda tx: accounts.end_session_named(tx, user_id, name))
        security_log.note("session_ended", user_id=user_id, session=name)

    async def end_sessions(self, user_id: int) -> None:
        """End every session of a user."""
        await self.end(user_id, lambda tx: accounts.end_sessions(tx, user_id))
        security_log.note("sessions_ended", user_id=user_id)

    async def end(self, user_id: int, work: Callable[[Transaction], object]) -> None:
        """Commit ``work``, which ends sessions of that user; their subscribers read again and find them ended."""

        def change(change: Change) -> None:
            change.tick(user_id)
            work(change.tx)

        await self._mailboxes.change(user_id, change)


def log_failure(storing: "asyncio.Task[None]") -> None:
    """Log that the use of a credential could not be stored, unless the database is unavailable."""
    error = None if storing.cancelled() else storing.exception()
    if error is not None and not isinstance(error, Unavailable):
        log.error("the use of a session or token could not be stored", exc_info=error)


def token_hash(token: str) -> str:
    """The hash under which the database stores a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def session_name(hashed: str) -> str:
    """The public name of a session: enough to tell a user's sessions apart, and useless as a credential."""
    return hashed[: accounts.SESSION_NAME_LENGTH]

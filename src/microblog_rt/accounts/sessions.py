"""Sessions: begin, look up, use, end. A browser holds a random token; the database holds its SHA-256.

Every read looks the session up again, so one that has ended is of no use anywhere. Not here: whether a password
is right (``Accounts``), cookies (``web/authentication.py``), SQL (``storage/accounts.py``).
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import NoneType
from typing import NamedTuple

from microblog_rt.errors import N_, Invalid, Unavailable
from microblog_rt.models import DEVICE_LENGTH, MICROSECOND, Session, User
from microblog_rt.notifications import Notifications
from microblog_rt.protocol import MICROSECONDS, Signal
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, Transaction, clock, sql_time
from microblog_rt.storage import accounts as rows
from microblog_rt.storage.accounts import Visit

log = logging.getLogger(__name__)

WRONG_PASSWORD = N_("Wrong username or password.")
DISABLED = N_("This account is disabled.")

IDLE_UNLESS_REMEMBERED = timedelta(hours=12) // MICROSECOND
USE_NOTED_EVERY = timedelta(minutes=1) // MICROSECOND
NOTED_WITHIN = 0.1  # seconds; longer it goes on by itself
NOTED_AGAIN = timedelta(seconds=5) // MICROSECOND  # after trouble


class Reader(NamedTuple):
    """Who reads, as their credential says: each read looks the session up and believes nothing else."""

    user_id: int
    token_hash: str


class Sessions:
    """The services about sessions."""

    def __init__(self, storage: Storage, notifications: Notifications, settings: Settings) -> None:
        self._storage = storage
        self._notifications = notifications
        self.session_lifetime = settings.session_lifetime  # seconds
        self._lifetime = settings.session_lifetime * MICROSECONDS
        idle = settings.session_idle * MICROSECONDS
        self._note_again = 0
        self._idle = {True: idle, False: min(idle, IDLE_UNLESS_REMEMBERED)}

    async def start_session(self, user: User, *, remembered: bool, device: str = "") -> str:
        """Begin a session of a user whose password has been checked; its token, of which only the hash is kept.

        ``device`` is what the browser calls itself. Raises Invalid where the check does not hold any more.
        """
        token = secrets.token_urlsafe(32)
        await self._storage.finish(self._start(user, token_hash(token), remembered, device))
        return token

    async def _start(self, user: User, hashed: str, remembered: bool, device: str) -> None:
        async with self._storage.transaction() as tx:
            password_hash, disabled = await rows.credentials(tx, user.id)
            if password_hash != user.password_hash:
                raise Invalid("password", WRONG_PASSWORD)
            if disabled:
                raise Invalid("username", DISABLED)
            await self._begin(tx, user.id, hashed, remembered, device)

    async def _begin(self, tx: Transaction, user_id: int, hashed: str, remembered: bool, device: str) -> None:
        lasts = min(self._idle[remembered], self._lifetime)
        device = "".join(each for each in device if each.isprintable())[:DEVICE_LENGTH]
        await rows.forget_expired(tx, user_id)
        await rows.add_session(tx, user_id, hashed, remembered, lasts, device)

    async def visit(self, reader: Reader) -> Visit | None:
        """Who that is, with the count and the cursor a page starts from; None if the session has ended."""
        async with self._storage.reading() as reading:
            return await rows.visit(reading, reader.token_hash)

    async def note_use(self, reader: Reader, last_used: int, every: int = USE_NOTED_EVERY) -> int:
        """Write down that a session is in use, once in ``every`` microseconds; when that was last done.

        Four times in the idle time at least. Where the database cannot take it just now, a later use will: it is
        no reason to refuse what is asked, nor to keep anybody waiting.
        """
        moment = sql_time.now()
        if moment - last_used < min(every, self._idle[False] // 4) or moment < self._note_again:
            return last_used
        noting = self._storage.begin(self._note(reader.token_hash))
        noting.add_done_callback(_forgiven)
        await asyncio.wait({noting}, timeout=NOTED_WITHIN)
        if noting.done() and not noting.exception():
            return moment
        self._note_again = moment + NOTED_AGAIN
        return last_used

    async def _note(self, hashed: str) -> None:
        async with self._storage.transaction() as tx:
            await rows.note_use(tx, hashed, self._idle, self._lifetime)

    async def sessions(self, reader: Reader, page: int, size: int) -> tuple[Sequence[Session], bool]:
        """The ``page``-th ``size`` live sessions (from 1) of a user: the reader's own, then the latest used first."""
        async with self._storage.reading() as reading:
            found = await rows.sessions(reading, *reader, (page - 1) * size, size + 1)
        return found[:size], len(found) > size

    async def end_session(self, reader: Reader) -> None:
        """End one session."""
        await self._end(reader.user_id, lambda tx: rows.end_session(tx, reader.token_hash))

    async def end_session_named(self, user_id: int, name: str) -> None:
        """End the session of that user that ``session_name`` calls so, if it has not ended already."""
        await self._end(user_id, lambda tx: rows.end_session_named(tx, user_id, name))

    async def end_sessions(self, user_id: int) -> None:
        """End every session of a user."""
        await self._end(user_id, lambda tx: rows.end_sessions(tx, user_id))

    async def _end(self, user_id: int, work: Callable[[Transaction], Awaitable[object]]) -> None:
        """Commit ``work``, which ends sessions of that user: what listens with one looks again, and finds it gone."""
        await self._storage.finish(self._ended(user_id, work))

    async def _ended(self, user_id: int, work: Callable[[Transaction], Awaitable[object]]) -> None:
        async with self._storage.transaction() as tx:
            tick = await clock.tick(tx, user_id)
            await work(tx)
            signal = Signal(user_id, tick.clock)
            await self._notifications.stage(tx, signal)
        await self._notifications.tell(signal)


def _forgiven(noting: asyncio.Task[None]) -> None:
    if not noting.cancelled() and not isinstance(noting.exception(), (Unavailable, NoneType)):
        log.error("a session's use was not noted", exc_info=noting.exception())


def token_hash(token: str) -> str:
    """What the database knows a token by."""
    return hashlib.sha256(token.encode()).hexdigest()


def session_name(hashed: str) -> str:
    """What a page calls the session of that token hash: enough to tell one's own apart, and no key to anything."""
    return hashed[: rows.SESSION_NAME_LENGTH]

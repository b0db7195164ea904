"""Accounts: register, sign in, sign out, set a password; sessions that live in the database.

A browser holds a random token; the database holds its SHA-256. Every read looks the session up again, so one
that has ended is of no use anywhere. Not here: cookies and forms (``web/``), SQL (``storage/accounts.py``).
"""

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from microblog_rt.errors import N_, Invalid, NotFound, Unavailable
from microblog_rt.models import EMAIL_LENGTH, EPOCH, MICROSECOND, USERNAME_LENGTH, User
from microblog_rt.notifications import Notifications
from microblog_rt.protocol import Wake
from microblog_rt.storage import Storage, clock
from microblog_rt.storage import accounts as rows
from microblog_rt.storage.accounts import Visit

USERNAME = re.compile(rf"[A-Za-z0-9_.-]{{2,{USERNAME_LENGTH}}}")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
PASSWORD_LENGTHS = range(8, 1025)

WRONG_PASSWORD = N_("Wrong username or password.")

SESSION_LIFETIME = timedelta(days=90) // MICROSECOND
SESSION_IDLE = {True: timedelta(days=14) // MICROSECOND, False: timedelta(hours=12) // MICROSECOND}
USE_NOTED_EVERY = timedelta(minutes=1) // MICROSECOND


class Reader(NamedTuple):
    """Who reads, as their credential says: each read looks the session up and believes nothing else."""

    user_id: int
    token_hash: str


class Accounts:
    """The verbs."""

    def __init__(self, storage: Storage, notifications: Notifications) -> None:
        self._storage = storage
        self._notifications = notifications
        # Memory-hard on purpose: in threads, and no more at once than there are cores.
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        self._cores = asyncio.Semaphore(os.cpu_count() or 1)
        self._nobodys_hash = ""

    async def register(self, username: str, password: str, email: str | None = None) -> User:
        """Make an account with an empty mailbox; raises Invalid, naming the field."""
        email = (email or "").strip() or None
        for fault in faults(username, password, email):
            raise fault
        password_hash = await self._hash(password)
        return await self._storage.finish(self._register(username, email, password_hash))

    async def _register(self, username: str, email: str | None, password_hash: str) -> User:
        moment = clock.now()
        user = User(
            username=username,
            username_key=username.lower(),
            email=email,
            password_hash=password_hash,
            member_since=EPOCH + moment * MICROSECOND,
        )
        async with self._storage.transaction() as tx:
            await rows.add(tx, user, moment)
        return user

    async def check_password(self, username: str, password: str) -> User:
        """The user of that name and password; raises Invalid, which tells nothing about which of them is wrong."""
        user = await self.find(username)
        # A name there is none of takes as long as a wrong password.
        password_hash = user.password_hash if user else await self._hash_of_nobody()
        if not await self._matches(password_hash, password) or user is None:
            raise Invalid("password", WRONG_PASSWORD)
        return user

    async def set_password(self, username: str, password: str) -> None:
        """Set a password and end every session of that user; raises NotFound or Invalid."""
        for fault in _password_faults(password):
            raise fault
        user = await self.find(username)
        if user is None:
            raise NotFound(N_("There is no user called %(name)s."), name=username)
        password_hash = await self._hash(password)
        await self._storage.finish(self._set_password(user.id, password_hash))

    async def _set_password(self, user_id: int, password_hash: str) -> None:
        async with self._storage.transaction() as tx:
            tick = await clock.tick(tx, user_id)
            await rows.set_password(tx, user_id, password_hash)
            await rows.end_sessions(tx, user_id)
        await self._notifications.tell(Wake(user_id, tick.clock))

    async def start_session(self, user: User, *, remembered: bool) -> str:
        """Begin a session; its token, of which only the hash is kept. Raises Invalid if the password has changed."""
        token = secrets.token_urlsafe(32)
        await self._storage.finish(self._start(user, token_hash(token), remembered))
        return token

    async def _start(self, user: User, hashed: str, remembered: bool) -> None:
        moment, user_id = clock.now(), user.id
        async with self._storage.transaction() as tx:
            if await rows.password_hash(tx, user_id) != user.password_hash:
                raise Invalid("password", WRONG_PASSWORD)  # it was changed while it was being checked
            await rows.forget_expired(tx, user_id, moment)
            await rows.add_session(tx, user_id, hashed, remembered, moment, moment + SESSION_IDLE[remembered])

    async def end_session(self, reader: Reader) -> None:
        """End one session: whatever listens with it is told to look again, and finds it gone."""
        await self._storage.finish(self._end(reader))

    async def _end(self, reader: Reader) -> None:
        async with self._storage.transaction() as tx:
            tick = await clock.tick(tx, reader.user_id)
            await rows.end_session(tx, reader.token_hash)
        await self._notifications.tell(Wake(reader.user_id, tick.clock))

    async def visit(self, reader: Reader) -> Visit | None:
        """Who that is, with the count and the cursor a page starts from; None if the session has ended."""
        async with self._storage.reading() as reading:
            return await rows.visit(reading, reader.token_hash, clock.now())

    async def note_use(self, reader: Reader, last_used: int, every: int = USE_NOTED_EVERY) -> int:
        """Write down that a session is in use, once in ``every`` microseconds; when that was last done.

        Where the database cannot take it just now, the next use will: it is no reason to refuse what is asked.
        """
        moment = clock.now()
        if moment - last_used < every:
            return last_used
        try:
            await self._storage.finish(self._note(reader.token_hash, moment))
        except Unavailable:
            return last_used
        return moment

    async def _note(self, hashed: str, moment: int) -> None:
        async with self._storage.transaction() as tx:
            await rows.note_use(tx, hashed, moment, SESSION_IDLE, SESSION_LIFETIME)

    async def find(self, username: str) -> User | None:
        """The user of that name, whatever its case."""
        async with self._storage.reading() as reading:
            return await rows.by_name(reading, username)

    async def people(self, page: int, size: int) -> tuple[Sequence[User], bool]:
        """The ``page``-th ``size`` users (from 1) by name, and whether there are more."""
        async with self._storage.reading() as reading:
            found = await rows.people(reading, (page - 1) * size, size + 1)
        return found[:size], len(found) > size

    async def _hash(self, password: str) -> str:
        async with self._cores:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def _matches(self, password_hash: str, password: str) -> bool:
        async with self._cores:
            try:
                return await asyncio.to_thread(self._hasher.verify, password_hash, password)
            except (VerificationError, InvalidHashError):
                return False

    async def _hash_of_nobody(self) -> str:
        self._nobodys_hash = self._nobodys_hash or await self._hash(secrets.token_urlsafe())
        return self._nobodys_hash


def token_hash(token: str) -> str:
    """What the database knows a token by."""
    return hashlib.sha256(token.encode()).hexdigest()


def faults(username: str, password: str, email: str | None) -> Iterator[Invalid]:
    """All that is wrong with a registration, but for a name that is taken."""
    if not USERNAME.fullmatch(username):
        yield Invalid("username", N_("A name has 2 to 64 letters (a to z), digits, “_”, “.” or “-”."))
    # A browser takes /user/.. for the way up.
    elif not username.strip("."):
        yield Invalid("username", N_("A name needs more than dots."))
    if email and (len(email) > EMAIL_LENGTH or not EMAIL.fullmatch(email)):
        yield Invalid("email", N_("This is not an e-mail address."))
    yield from _password_faults(password)


def _password_faults(password: str) -> Iterator[Invalid]:
    if len(password) not in PASSWORD_LENGTHS:
        least, most = PASSWORD_LENGTHS[0], PASSWORD_LENGTHS[-1]
        yield Invalid("password", N_("A password has %(least)s to %(most)s characters."), least=least, most=most)

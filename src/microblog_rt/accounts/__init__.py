"""Accounts: register, sign in, set a password, disable; and sessions, that live in the database.

    sessions.py    begin, look up, use, end
    rules.py       what a name and a password must be
    passwords.py   hashing
    attempts.py    how often a password may be guessed

Not here: cookies and forms (``web/``), SQL (``storage/accounts.py``).
"""

import secrets
from collections.abc import Sequence

from microblog_rt.accounts.attempts import Attempts
from microblog_rt.accounts.passwords import NOBODYS_HASH, Passwords
from microblog_rt.accounts.rules import faults, password_faults
from microblog_rt.accounts.sessions import DISABLED, WRONG_PASSWORD, Reader, Sessions, session_name, token_hash
from microblog_rt.errors import N_, Invalid, NotFound, SignedOut
from microblog_rt.models import User
from microblog_rt.notifications import Notifications
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, Transaction, limits
from microblog_rt.storage import accounts as rows
from microblog_rt.storage.accounts import Visit

__all__ = ["Accounts", "Reader", "faults", "password_faults", "session_name", "token_hash"]

WRONG_OLD_PASSWORD = N_("This is not your present password.")
SESSION_LIFETIME = Settings.session_lifetime * MICROSECONDS  # unless set otherwise


class Accounts(Sessions):
    """The services: those about people, beside those about their sessions."""

    def __init__(self, storage: Storage, notifications: Notifications, settings: Settings) -> None:
        super().__init__(storage, notifications, settings)
        self._passwords = Passwords()
        self._attempts = Attempts(storage, settings)

    async def register(self, username: str, password: str, email: str | None = None, address: str = "") -> User:
        """Make an account with an empty mailbox; raises Invalid, naming the field.

        It is counted as one from ``address``, if that is known; raises TooMany.
        """
        email = (email or "").strip() or None
        for fault in await faults(username, password, email):
            raise fault
        if await self.find(username):
            raise Invalid("username", rows.NAME_TAKEN)
        await self._attempts.register(address)
        password_hash = await self._passwords.hash(password)
        return await self._storage.finish(self._register(username, email, password_hash))

    async def _register(self, username: str, email: str | None, password_hash: str) -> User:
        user = User(
            username=username,
            username_key=username.lower(),
            email=email,
            password_hash=password_hash,
        )
        async with self._storage.transaction() as tx:
            await rows.add(tx, user)
        return user

    async def check_password(self, username: str, password: str, address: str = "") -> User:
        """The user of that name and password, whom somebody at ``address`` claims to be; counted, right or wrong.

        Raises TooMany, or Invalid, which tells nothing about which of name and password is wrong.
        """
        await self._attempts.sign_in(username, address)
        user = await self._opened(username, password)
        if user is None:
            raise Invalid("password", WRONG_PASSWORD)
        if user.disabled:
            raise Invalid("username", DISABLED)
        return user

    async def opens(self, username: str, password: str) -> bool:
        """Whether that password signs that user in. Counted nowhere: for the operator's own commands alone."""
        user = await self._opened(username, password)
        return user is not None and not user.disabled

    async def _opened(self, username: str, password: str) -> User | None:
        user = await self.find(username)
        password_hash = user.password_hash if user else NOBODYS_HASH
        return user if await self._passwords.match(password_hash, password) else None

    async def set_password(self, username: str, password: str) -> None:
        """Set a password and end every session of that user; raises NotFound or Invalid."""
        for fault in await password_faults(password, username):
            raise fault
        user_id = (await self._known(username)).id
        password_hash = await self._passwords.hash(password)

        async def work(tx: Transaction) -> None:
            await rows.set_password(tx, user_id, password_hash)
            await rows.end_sessions(tx, user_id)

        await self._end(user_id, work)

    async def change_password(self, visit: Visit, old: str, new: str, address: str = "") -> str:
        """Change one's own password: every session ends, and one like that of ``visit`` begins; its token.

        ``old`` is a guess like any other. Raises TooMany; Invalid, of old_password or password; SignedOut.
        """
        for fault in await password_faults(new, visit.user.username):
            raise fault
        try:
            user = await self.check_password(visit.user.username, old, address)
        except Invalid:
            raise Invalid("old_password", WRONG_OLD_PASSWORD) from None
        password_hash, token, session = await self._passwords.hash(new), secrets.token_urlsafe(32), visit.session

        async def work(tx: Transaction) -> None:
            if (await rows.credentials(tx, user.id)).password_hash != user.password_hash:
                raise Invalid("old_password", WRONG_OLD_PASSWORD)  # it was changed while it was being checked
            if session.token_hash not in await rows.end_sessions(tx, user.id):
                raise SignedOut
            await rows.set_password(tx, user.id, password_hash)
            await self._begin(tx, user.id, token_hash(token), session.remembered, session.device)

        await self._end(user.id, work)
        return token

    async def disable(self, username: str) -> None:
        """Keep a user out until ``enable``: every session ends, and none begins; raises NotFound."""
        user_id = (await self._known(username)).id

        async def work(tx: Transaction) -> None:
            await rows.set_disabled(tx, user_id, True)
            await rows.end_sessions(tx, user_id)

        await self._end(user_id, work)

    async def enable(self, username: str) -> None:
        """Let a user sign in again; raises NotFound."""
        user_id = (await self._known(username)).id
        async with self._storage.transaction() as tx:
            await rows.set_disabled(tx, user_id, False)

    async def forget_expired(self) -> None:
        """Delete every session and every attempt whose time is over."""
        for forget_some in (rows.forget_expired, limits.forget):
            more = True
            while more:
                async with self._storage.transaction() as tx:
                    more = await forget_some(tx)

    async def find(self, username: str) -> User | None:
        """The user of that name, whatever its case."""
        async with self._storage.reading() as reading:
            return await rows.by_name(reading, username)

    async def _known(self, username: str) -> User:
        user = await self.find(username)
        if user is None:
            raise NotFound(N_("There is no user called %(name)s."), name=username)
        return user

    async def people(self, page: int, size: int) -> tuple[Sequence[User], bool]:
        """The ``page``-th ``size`` users (from 1) by name, and whether there are more."""
        async with self._storage.reading() as reading:
            found = await rows.people(reading, (page - 1) * size, size + 1)
        return found[:size], len(found) > size

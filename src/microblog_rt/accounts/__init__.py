"""Accounts: register, check and set passwords, disable.

sessions.py    sessions
tokens.py      access tokens
registration.py  who may register
removal.py     deletes an account; export.py exports its data
recovery.py    the e-mail address, and links to change it or to set a new password
site_users.py  users of another site, whose tokens that site signs
rules.py       what a name, an e-mail address and a password must be
strength.py    which passwords are easy to guess
passwords.py   hashing; stored_passwords.py matches stored hashes, and replaces outdated ones
werkzeug_hashes.py  hashes that were imported
devices.py     browsers that have signed in before
attempts.py    how often a password may be tried and an account be made
"""

import asyncio
import secrets
from collections.abc import Callable, Collection, Coroutine
from contextlib import nullcontext
from functools import cache, partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from microblog_rt import names, security_log, text
from microblog_rt.accounts import rules
from microblog_rt.accounts.attempts import Attempt, Attempts
from microblog_rt.accounts.devices import UNKNOWN, Device, Marks
from microblog_rt.accounts.sessions import Reader, Sessions, session_name, token_hash
from microblog_rt.accounts.site_users import SiteUsers
from microblog_rt.accounts.stored_passwords import StoredPasswords
from microblog_rt.accounts.strength import Turns
from microblog_rt.accounts.tokens import Tokens, reader_of
from microblog_rt.errors import Invalid, NotFound, SignedOut
from microblog_rt.models import User
from microblog_rt.secret_key import secret_keys
from microblog_rt.settings import Settings
from microblog_rt.storage import Storage, Transaction, idempotency, limits, links, tokens
from microblog_rt.storage import accounts as stored
from microblog_rt.storage.accounts import Visit
from microblog_rt.storage.pages import Page
from microblog_rt.timeouts import Timeouts

__all__ = ["Accounts", "Device", "Reader", "Sessions", "SiteUsers", "Tokens", "reader_of", "session_name", "token_hash"]

T = TypeVar("T")
Check = Callable[[Transaction], object]  # raises to refuse

DISPLAY_NAME_LENGTH = 50  # characters


class Accounts:
    """Creates and changes accounts."""

    def __init__(
        self, storage: Storage, sessions: Sessions, settings: Settings, timeouts: Timeouts = Timeouts()
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._passwords = StoredPasswords(storage)
        self._turns = Turns()
        self._delayed = asyncio.Semaphore(1)  # while there are too many sign-ins, they use one core at most
        keys = cache(partial(secret_keys, settings))  # commands do without the keys
        self.attempts = Attempts(storage, settings, keys, timeouts)
        self._marks = Marks(keys)
        self._host = urlsplit(settings.public_url or "").hostname or ""

    async def faults(self, username: str, password: str, email: str | None, address: str = "") -> list[Invalid]:
        """Everything that is wrong with a registration, except a name that is taken or looks like one that is.

        Raises TooMany if many wait, or several of that address.
        """
        with self._turns.turn(address):
            return await rules.faults(username, password, email, self._host)

    async def password_faults(self, user: User, password: str, address: str = "") -> list[Invalid]:
        """What is wrong with ``password`` as a new password of ``user``. Raises TooMany as ``faults`` does."""
        with self._turns.turn(address):
            return await rules.password_faults(password, user.username, user.email or "", self._host)

    async def register(
        self, username: str, password: str, email: str | None = None, address: str = "", check: Check = lambda _: None
    ) -> User:
        """Create an account with an empty mailbox and return the user.

        Counted as a registration from ``address``, if that is known; ``check`` runs in the transaction. Raises Invalid
        with the field, TooMany, and what ``check`` raises.
        """
        email = (email or "").strip() or None
        for fault in await self.faults(username, password, email, address):
            raise fault
        await self.counted(self.attempts.register(address))  # first, so that names cannot be tried without limit
        if await self.find(username):
            raise Invalid("username", "username_taken")
        user = User(
            username=names.normalized(username),
            username_key=names.key(username),
            username_skeleton=names.skeleton(username),
            email=email,
            password_hash=await self._passwords.hash(password),
        )

        def work(tx: Transaction) -> None:
            stored.add(tx, user)
            check(tx)

        await self._storage.write(work)
        security_log.note("account_registered", user=user.username, user_id=user.id)
        return user

    async def check_password(self, username: str, password: str, address: str = "", device: Device = UNKNOWN) -> User:
        """The user of that name and password. Counted as an attempt of the device, if it is known, or from ``address``.

        Raises TooMany, or Invalid, which does not say whether the name or the password is wrong.
        """
        user = await self.find(username) if device.marks else None
        if user is not None and self._marks.known(device, user):
            attempt = await self.counted(self.attempts.device(device.id, user.id), username)
        else:
            attempt = await self.counted(self.attempts.sign_in(username, address), username)
        return await self._checked(username, password, attempt, "sign_in_failed")

    def device_mark(self, device_id: str, user: User) -> str:
        """The mark for a device on which ``user`` has signed in."""
        return self._marks.mark(device_id, user)

    async def counted(self, counting: Coroutine[Any, Any, T], username: str = "") -> T:
        """Await ``counting``, and log once when a limit begins to refuse."""
        try:
            return await counting
        except limits.OverLimit as error:
            if error.first:
                user = await self.find(username)  # what was typed may be a password
                name = user.username if user else None
                security_log.note("limit_reached", limit=error.subject.rpartition(":")[0], user=name)
            raise

    async def _checked(self, username: str, password: str, attempt: Attempt, failure: str) -> User:
        user = await self.find(username)
        async with self._delayed if attempt.delayed else nullcontext():
            matches = await self._passwords.match(user, password)
        if user is None or not matches:
            known = {"user": user.username, "reason": "password"} if user else {"reason": "unknown name"}
            security_log.note(failure, **known)
            raise Invalid("password", "wrong_password")
        if user.disabled:
            security_log.note(failure, user=user.username, reason="disabled")
            raise Invalid("username", "account_disabled")
        await self.attempts.succeeded(attempt)
        return user

    async def opens(self, username: str, password: str) -> bool:
        """Whether that password signs that user in. Not counted: only for the operator's own commands."""
        user = await self.find(username)
        return await self._passwords.match(user, password) and user is not None and not user.disabled

    async def set_password(
        self, username: str, password: str, check: Check = lambda _: None, event: str = "password_set"
    ) -> User:
        """Set a password and end every session, token and link of that user, who is returned.

        ``check`` runs first, with the user's row locked. Raises NotFound, Invalid, and what ``check`` raises.
        """
        user = await self.known(username)
        for fault in await self.password_faults(user, password):
            raise fault
        password_hash = await self._passwords.hash(password)

        def work(tx: Transaction) -> None:
            stored.credentials(tx, user.id)  # locks the row before the links: always in this order
            check(tx)
            stored.set_password(tx, user.id, password_hash)
            _end_everything(tx, user.id)

        await self._sessions.end(user.id, work)
        user.password_hash = password_hash
        security_log.note(event, user=user.username, user_id=user.id)
        return user

    async def reauthenticate(self, visit: Visit, password: str) -> User:
        """The user of ``visit``, whose current password must be ``password``. Counted for the session.

        Raises TooMany, Invalid.
        """
        name = visit.user.username
        attempt = await self.counted(self.attempts.session(visit.session.token_hash), name)
        try:
            return await self._checked(name, password, attempt, "current_password_wrong")
        except Invalid:
            raise Invalid("old_password", "wrong_current_password") from None

    async def change_password(self, visit: Visit, old: str, new: str) -> str:
        """Change the password of a signed-in user, end every session and access token, start a session like ``visit``.

        Return the new session's token. ``old`` counts as ``reauthenticate`` says. Raises TooMany, Invalid with the
        field old_password or password, SignedOut.
        """
        for fault in await self.password_faults(visit.user, new):
            raise fault
        user = await self.reauthenticate(visit, old)
        password_hash, token, session = await self._passwords.hash(new), secrets.token_urlsafe(32), visit.session

        def work(tx: Transaction) -> None:
            if stored.credentials(tx, user.id).password_hash != user.password_hash:
                raise Invalid("old_password", "wrong_current_password")  # it was changed while it was being checked
            if session.token_hash not in stored.end_sessions(tx, user.id):
                raise SignedOut
            tokens.end_all(tx, user.id)
            links.end_all(tx, user.id)
            stored.set_password(tx, user.id, password_hash)
            self._sessions.insert(tx, user.id, token, session.remembered, session.device)

        await self._sessions.end(user.id, work)
        visit.user.password_hash = password_hash
        security_log.note("password_changed", user=user.username, user_id=user.id)
        return token

    async def disable(self, username: str) -> None:
        """End every session, token and link of a user and start none until ``enable``. Raises NotFound."""
        user_id = (await self.known(username)).id

        def work(tx: Transaction) -> None:
            stored.set_disabled(tx, user_id, True)
            _end_everything(tx, user_id)

        await self._sessions.end(user_id, work)
        security_log.note("account_disabled", user=username, user_id=user_id)

    async def enable(self, username: str) -> None:
        """Let a disabled user sign in again. Raises NotFound."""
        user_id = (await self.known(username)).id
        await self._storage.write(lambda tx: stored.set_disabled(tx, user_id, False))
        security_log.note("account_enabled", user=username, user_id=user_id)

    async def edit_profile(self, user_id: int, display_name: str, about_me: str) -> None:
        """Store what a user says on the profile; either may be empty. Raises Invalid for one that is too long."""
        name = text.optional(" ".join(display_name.split()), "display_name", DISPLAY_NAME_LENGTH)
        about = text.optional(about_me, "about_me")
        said = {"display_name": name or None, "about_me": about or None}
        await self._storage.write(lambda tx: stored.set_profile(tx, user_id, **said))

    async def forget_expired(self) -> None:
        """Delete every expired session, token, link and result, and every attempt that has left its window."""
        forgets = (
            stored.forget_expired,
            tokens.forget_expired,
            links.forget_expired,
            idempotency.forget,
            limits.forget,
        )
        for forget_some in forgets:
            while await self._storage.write(forget_some):
                pass

    async def find(self, username: str) -> User | None:
        """The user of that name, in any case and any Unicode normalization form."""
        return await stored.by_name(self._storage, username)

    async def known(self, username: str) -> User:
        """The user of that name, in any case. Raises NotFound."""
        user = await self.find(username)
        if user is None:
            raise NotFound("unknown_user", name=username)
        return user

    async def ids(self, usernames: Collection[str]) -> dict[str, int]:
        """The ids of the users of these names, by name; without those that do not exist."""
        keys = {name: names.key(name) for name in usernames}
        async with self._storage.reading() as reading:
            found = await stored.ids(reading, set(keys.values()))
        return {name: found[key] for name, key in keys.items() if key in found}

    async def everyone(self, size: int, after: str | None = None) -> Page[User]:
        """Up to ``size`` users by name, the disabled included: those after the key ``after``, if any."""
        async with self._storage.reading() as reading:
            return await stored.everyone(reading, size, after)

    async def people(self, size: int, before: str | None = None, after: str | None = None) -> Page[User]:
        """Up to ``size`` users by name, without the disabled: those next to the key ``before`` or ``after``, if any."""
        async with self._storage.reading() as reading:
            return await stored.people(reading, size, before, after)


def _end_everything(tx: Transaction, user_id: int) -> None:
    stored.end_sessions(tx, user_id)
    tokens.end_all(tx, user_id)
    links.end_all(tx, user_id)

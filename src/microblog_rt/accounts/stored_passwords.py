"""Stored password hashes: matched, and replaced if they are outdated."""

from functools import partial

from microblog_rt.accounts.passwords import UNKNOWN_USERS_HASH, Match, Passwords
from microblog_rt.models import User
from microblog_rt.storage import Storage, accounts


class StoredPasswords:
    """Hashes passwords, and matches them against the hashes of users."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._passwords = Passwords()

    async def hash(self, password: str) -> str:
        """A new, salted hash of ``password``."""
        return await self._passwords.hash(password)

    async def match(self, user: User | None, password: str) -> bool:
        """Whether it is the user's password; takes as long without a user."""
        match = await self._passwords.match(user.password_hash if user else UNKNOWN_USERS_HASH, password)
        if user is not None and match is Match.OUTDATED:
            await self._hash_again(user, password)
        return bool(match)

    async def _hash_again(self, user: User, password: str) -> None:
        """Replace the hash of a password that was not changed meanwhile."""
        password_hash = await self._passwords.hash(password)
        if await self._storage.write(partial(accounts.replace_hash, user.id, user.password_hash, password_hash)):
            user.password_hash = password_hash
            return
        now = await accounts.by_name(self._storage, user.username)
        if now is not None and await self._passwords.match(now.password_hash, password):
            user.password_hash = now.password_hash  # another sign-in has replaced it

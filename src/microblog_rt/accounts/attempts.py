"""How often a password may be guessed and an account be made: counted before the hash, which is what costs.

Every sign-in is an attempt, a right one too: of the account, of the address, and of everybody together. Not here:
how attempts are counted (``storage/limits.py``).
"""

import hashlib

from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import Storage, limits

Counted = list[tuple[str, Limit | None]]


class Attempts:
    """Lets through what is within its limits, and raises TooMany for the rest, which is not counted."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._settings = settings
        self._refusals = limits.Refusals()

    async def sign_in(self, username: str, address: str) -> None:
        """Count one guess at the password of ``username``, whether or not there is one, from ``address``."""
        each, everybody = self._settings.sign_in_limit, self._settings.sign_in_global_limit
        counted = [("sign_in", everybody), (_subject("sign_in", "account", username.lower()), each)]
        await self._count(counted + _of_address("sign_in", address, each))

    async def register(self, address: str) -> None:
        """Count one registration from ``address``."""
        await self._count(_of_address("register", address, self._settings.register_limit))

    async def _count(self, counted: Counted) -> None:
        self._refusals.check(subject for subject, _ in counted)
        if any(limit for _, limit in counted):
            await self._storage.finish(self._take(counted))

    async def _take(self, counted: Counted) -> None:
        async with self._storage.transaction() as tx:
            for subject, limit in counted:
                await limits.take(tx, subject, limit, self._refusals)


def _of_address(deed: str, address: str, limit: Limit | None) -> Counted:
    return [(_subject(deed, "address", address), limit)] if address else []


def _subject(deed: str, kind: str, who: str) -> str:
    """Hashed: as long as there is room for, and nobody learns from the database who tried what."""
    return f"{deed}:{kind}:{hashlib.sha256(who.encode()).hexdigest()}"

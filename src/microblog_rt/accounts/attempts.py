"""Limits on password attempts and registrations, counted before the expensive hash.

Every sign-in counts, successful ones too: for the account, for the address, and for the whole site.
"""

import hashlib
from functools import partial

from microblog_rt import names
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import Storage, Transaction, limits

Counted = list[tuple[str, Limit | None]]


class Attempts:
    """Counts attempts, and raises TooMany for those over a limit, which are not counted."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._settings = settings
        self._refusals = limits.Refusals()

    async def sign_in(self, username: str, address: str) -> None:
        """Count one password attempt for ``username``, which need not exist, from ``address``."""
        limit, global_limit = self._settings.sign_in_limit, self._settings.sign_in_global_limit
        counted = [("sign_in", global_limit), (_subject("sign_in", "account", names.key(username)), limit)]
        await self._count(counted + _of_address("sign_in", address, limit))

    async def register(self, address: str) -> None:
        """Count one registration from ``address``."""
        await self._count(_of_address("register", address, self._settings.register_limit))

    async def _count(self, counted: Counted) -> None:
        with limits.reported():
            self._refusals.check(subject for subject, _ in counted)
            if any(limit for _, limit in counted):
                try:
                    await self._storage.write(partial(_take, counted))
                except limits.OverLimit as error:
                    self._refusals.note(error)
                    raise


def _take(counted: Counted, tx: Transaction) -> None:
    for subject, limit in counted:
        limits.take(tx, subject, limit)


def _of_address(action: str, address: str, limit: Limit | None) -> Counted:
    return [(_subject(action, "address", address), limit)] if address else []


def _subject(action: str, kind: str, name: str) -> str:
    """Hash the subject, so that its length is fixed and the database shows no name or address."""
    return f"{action}:{kind}:{hashlib.sha256(name.encode()).hexdigest()}"

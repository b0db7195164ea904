"""Hashing passwords: memory-hard on purpose, so in threads, and no more at once than there are cores.

Not here: which passwords are accepted (``rules.py``) and how often one may be guessed (``attempts.py``).
"""

import asyncio
import os

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

TIME, MEMORY, PARALLELISM = 2, 19456, 1  # MEMORY in KiB

# No password has it. It costs what any other does, so that a name there is none of takes as long as a wrong password.
NOBODYS_HASH = f"$argon2id$v=19$m={MEMORY},t={TIME},p={PARALLELISM}${'A' * 22}${'A' * 43}"


class Passwords:
    """Hashes, and compares with hashes."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=TIME, memory_cost=MEMORY, parallelism=PARALLELISM)
        self._cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def hash(self, password: str) -> str:
        """A new hash of ``password``, salted."""
        async with self._cores:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def match(self, password_hash: str, password: str) -> bool:
        """Whether that hash was made of that password."""
        async with self._cores:
            try:
                return await asyncio.to_thread(self._hasher.verify, password_hash, password)
            except (VerificationError, InvalidHashError):
                return False

"""Password hashing: memory-hard, so in threads, at most as many at once as there are cores."""

import asyncio
import os

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

TIME, MEMORY, PARALLELISM = 2, 19456, 1  # MEMORY in KiB

# No password matches it. Checking it takes as long as any other, so that timing does not reveal which names exist.
UNKNOWN_USERS_HASH = f"$argon2id$v=19$m={MEMORY},t={TIME},p={PARALLELISM}${'A' * 22}${'A' * 43}"


class Passwords:
    """Hashes passwords and checks them."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=TIME, memory_cost=MEMORY, parallelism=PARALLELISM)
        self._cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def hash(self, password: str) -> str:
        """A new, salted hash of ``password``."""
        async with self._cores:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def match(self, password_hash: str, password: str) -> bool:
        """Whether ``password_hash`` is a hash of ``password``."""
        async with self._cores:
            try:
                return await asyncio.to_thread(self._hasher.verify, password_hash, password)
            except (VerificationError, InvalidHashError):
                return False

"""Password hashing: memory-hard, so in threads, at most as many at once as there are cores.

Passwords are hashed in NFKC, since keyboards differ in how they compose letters. Earlier releases hashed them as they
were typed: such a hash matches as well, and is then replaced. So is a hash that was imported (``werkzeug_hashes.py``).
"""

import asyncio
import os
import unicodedata
from collections.abc import Iterator
from enum import Enum

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from microblog_rt.accounts import werkzeug_hashes

TIME, MEMORY, PARALLELISM = 2, 19456, 1  # MEMORY in KiB
LONGEST = 1024  # code points

# No password matches it. Checking it takes as long as any other, so that timing does not reveal which names exist.
UNKNOWN_USERS_HASH = f"$argon2id$v=19$m={MEMORY},t={TIME},p={PARALLELISM}${'A' * 22}${'A' * 43}"


class Match(Enum):
    """Whether a password matches a hash; OUTDATED: it does, and should be hashed again."""

    NO = 0
    YES = 1
    OUTDATED = 2

    def __bool__(self) -> bool:
        return self is not Match.NO


class Passwords:
    """Hashes passwords and checks them."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=TIME, memory_cost=MEMORY, parallelism=PARALLELISM)
        self._cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def hash(self, password: str) -> str:
        """A new, salted hash of ``password``."""
        async with self._cores:
            return await asyncio.to_thread(self._hasher.hash, normalized(password))

    async def match(self, password_hash: str, password: str) -> Match:
        """Whether ``password_hash`` is a hash of ``password``."""
        async with self._cores:
            return await asyncio.to_thread(self._match, password_hash, password)

    def _match(self, password_hash: str, password: str) -> Match:
        for each in _spellings(password):
            if werkzeug_hashes.matches(password_hash, each):
                return Match.OUTDATED
            try:
                self._hasher.verify(password_hash, each)
            except (VerificationError, InvalidHashError):
                continue
            current = each == normalized(password) and not self._hasher.check_needs_rehash(password_hash)
            return Match.YES if current else Match.OUTDATED
        return Match.NO


def normalized(password: str) -> str:
    """The password in NFKC; over ``LONGEST`` unchanged, since normalization can take quadratic time."""
    return unicodedata.normalize("NFKC", password) if len(password) <= LONGEST else password


def _spellings(password: str) -> Iterator[str]:
    """What may have been hashed: the password in NFKC, and as it was typed."""
    yield normalized(password)
    if normalized(password) != password:
        yield password

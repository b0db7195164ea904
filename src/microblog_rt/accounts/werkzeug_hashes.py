"""Password hashes of Flask applications, as ``werkzeug.security`` writes them; an import stores them unchanged.

Computed with ``hashlib``, which will still know them when a newer Werkzeug does not. The cost is part of the hash, so
it is bounded: a hash that costs more than twice Werkzeug's highest default matches no password.
"""

import hashlib
import hmac
import re

HASH = re.compile(
    r"(?:scrypt:([0-9]{1,9}):([0-9]{1,4}):([0-9]{1,4})|pbkdf2:(sha1|sha256|sha512):([0-9]{1,9}))"
    r"\$([^$\s]{1,64})\$([0-9a-f]{40,128})"
)
SCRYPT_BLOCKS = 2**19  # of 128 bytes: 64 MiB
ITERATIONS = 2_000_000  # about a second


def is_usable(password_hash: str) -> bool:
    """Whether it is such a hash, at an acceptable cost."""
    found = HASH.fullmatch(password_hash)
    if found is None:
        return False
    if found[4]:
        return 1 <= int(found[5]) <= ITERATIONS
    n, r, p = map(int, found.group(1, 2, 3))
    return n > 1 and n & (n - 1) == 0 and r > 0 and p > 0 and n * r * p <= SCRYPT_BLOCKS


def matches(password_hash: str, password: str) -> bool:
    """Whether it is a usable hash of ``password``."""
    found = HASH.fullmatch(password_hash)
    if found is None or not is_usable(password_hash):
        return False
    salt = found[6].encode()
    if found[4]:
        digest = hashlib.pbkdf2_hmac(found[4], password.encode(), salt, int(found[5]))
    else:
        n, r, p = map(int, found.group(1, 2, 3))
        digest = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=132 * n * r * p)
    return hmac.compare_digest(digest.hex(), found[7])

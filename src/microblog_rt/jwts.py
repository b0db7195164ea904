"""JSON Web Tokens (RFC 7519) that another site signs for its users: the keys, and the verification.

The algorithm follows from the key and never from the token: HS256 for a secret; RS256, ES256 or EdDSA for a public key.
See also: ``accounts/site_users.py``, the accounts of these users.
"""

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from microblog_rt.errors import JwtRefused

MICROSECONDS = 1_000_000
LONGEST = 4000  # characters; fits into one frame of a WebSocket
LONGEST_VALID = 86_400  # seconds from now to "exp"
LEEWAY = 5  # seconds by which the clock of the site may be ahead, for "iat" and "nbf"
SHORTEST_SECRET = 32  # bytes
SHORTEST_RSA = 2048  # bits
SAME = 6  # different characters of a secret, at least
CACHED = 10_000
DEFAULT_SCOPE = "notifications:read messages:read messages:send"
JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
# By the type and the curve in a JWK.
ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}


class Claims(NamedTuple):
    """The verified claims of a token; times in microseconds. ``scopes`` are separated by spaces."""

    subject: str
    issued: int
    expires: int
    scopes: str
    token_hash: str


class Key(NamedTuple):
    """A key, and the one algorithm that it is for."""

    algorithm: str
    key: Any


class Keys:
    """Verifies tokens with one secret, or with the public keys of a set, by their ``kid``."""

    def __init__(self, keys: Mapping[str | None, Key]) -> None:
        self._keys = keys
        # The claims of a token that was verified never change; whether it has expired is checked at each use.
        self._cached = lru_cache(maxsize=CACHED)(self._verified)

    def claims(self, text: str, audience: str | None) -> Claims:
        """The claims of a valid token. Raises JwtRefused."""
        if len(text) > LONGEST:
            raise JwtRefused("it is too long")
        claims = self._cached(text, audience)
        if claims.expires <= time.time() * MICROSECONDS:
            raise JwtRefused("it has expired")
        return claims

    def _verified(self, text: str, audience: str | None) -> Claims:
        import jwt

        try:
            head = jwt.get_unverified_header(text)
            if "crit" in head:
                raise JwtRefused("its header has crit")
            algorithm, key = self._key(head.get("kid"))
            options: Any = {
                "require": ["exp", "iat", "sub", *(["aud"] if audience else [])],
                "verify_aud": audience is not None,
                "verify_exp": False,  # without leeway, in ``claims``
            }
            found = jwt.decode(text, key, [algorithm], options, audience=audience, leeway=LEEWAY)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise JwtRefused(str(error)) from None
        issued, expires = _time(found, "iat"), _time(found, "exp")
        if expires > (time.time() + LONGEST_VALID) * MICROSECONDS:
            raise JwtRefused("exp is more than 24 hours ahead")
        scopes = found.get("scope", DEFAULT_SCOPE)
        if not isinstance(scopes, str):
            raise JwtRefused("scope is not a string")
        hashed = hashlib.sha256(text.encode()).hexdigest()
        return Claims(found["sub"], issued, expires, " ".join(scopes.split()), hashed)

    def _key(self, kid: object) -> Key:
        """The key of that id; without an id, the only one."""
        if None in self._keys:
            return self._keys[None]
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if not isinstance(kid, str) or kid not in self._keys:
            raise JwtRefused("kid is not the id of a known key")
        return self._keys[kid]


def parse(text: str) -> Keys | None:
    """The keys that a setting names: a secret, or the path of a JWKS file. None if it is empty. Raises ValueError."""
    if not text:
        return None
    if find_spec("jwt") is None or find_spec("cryptography") is None:
        raise ValueError("PyJWT is not installed; pip install 'microblog-rt[jwt]'")
    if text.startswith(("/", "./", "../", "~")) or text.endswith((".json", ".jwks", ".pem", ".key")):
        return _key_set(text)
    if len(text.encode()) < SHORTEST_SECRET or len(set(text)) < SAME:
        raise ValueError(f"must be a random secret of at least {SHORTEST_SECRET} bytes, or the path of a JWKS file")
    return Keys({None: Key("HS256", text.encode())})


def _key_set(path: str) -> Keys:
    import jwt

    try:
        listed = json.loads(Path(path).read_text())["keys"]
        keys: dict[str | None, Key] = {}
        for each in listed:
            kid, key = each.get("kid", ""), _public_key(each)
            if not isinstance(kid, str) or kid in keys:
                raise ValueError("each key must have a kid of its own")
            keys[kid] = key
    except OSError as error:
        raise ValueError(f"the JWKS file {path} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise ValueError(f"{path} is not a JWKS file (RFC 7517): {error}") from None
    if not keys:
        raise ValueError(f"the JWKS file {path} has no key")
    return Keys(keys)


def _public_key(jwk: Mapping[str, Any]) -> Key:
    import jwt

    algorithm = ALGORITHMS.get((jwk["kty"], jwk.get("crv")))
    if algorithm is None or jwk.get("alg", algorithm) != algorithm or "d" in jwk:
        raise ValueError("must have public keys only: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA")
    key = jwt.PyJWK(dict(jwk), algorithm).key
    if algorithm == "RS256" and key.key_size < SHORTEST_RSA:
        raise ValueError(f"must have RSA keys of at least {SHORTEST_RSA} bits")
    return Key(algorithm, key)


def _time(claims: Mapping[str, Any], name: str) -> int:
    value = claims[name]
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 < value < 1e12
    ):
        raise JwtRefused(f"{name} is not a number of seconds since 1970")
    return round(value * MICROSECONDS)

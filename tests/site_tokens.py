"""Signed tokens (JWTs) as another site makes them: valid ones, and many kinds that must be refused."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET = "a secret of the other site, 32 bytes or more"
AUDIENCE = "badge"
PUBLISH = "notifications:publish notifications:read"


def private_key(algorithm: str, number: int = 0) -> Any:
    """A key of that algorithm; another for each number."""
    return _private_key(algorithm, number)


@cache
def _private_key(algorithm: str, number: int) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def jwk(algorithm: str, number: int = 0, **more: str) -> dict[str, Any]:
    """The public key as a JWK."""
    key = private_key(algorithm, number).public_key()
    kind: dict[str, Any] = {
        "RS256": jwt.algorithms.RSAAlgorithm,
        "ES256": jwt.algorithms.ECAlgorithm,
        "EdDSA": jwt.algorithms.OKPAlgorithm,
    }
    found: dict[str, Any] = kind[algorithm].to_jwk(key, as_dict=True)
    return {**found, "kid": algorithm, **more}


def key_file(folder: Path, *jwks: dict[str, Any]) -> str:
    """The path of a JWKS file; by default with a key of each algorithm."""
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": jwks or [jwk(each) for each in ("RS256", "ES256", "EdDSA")]}))
    return str(path)


def claims(name: str = "visitor", **more: Any) -> dict[str, Any]:
    """Claims that are valid for five minutes; None removes one."""
    now = int(time.time())
    found = {"sub": name, "iat": now - 1, "exp": now + 300, "aud": AUDIENCE, **more}
    return {key: value for key, value in found.items() if value is not None}


def signed(name: str = "visitor", algorithm: str = "HS256", **more: Any) -> str:
    """A token as the site makes it."""
    key = SECRET if algorithm == "HS256" else private_key(algorithm)
    headers = {} if algorithm == "HS256" else {"kid": algorithm}
    return jwt.encode(claims(name, **more), key, algorithm, headers=headers)


def by_hand(header: dict[str, Any], payload: dict[str, Any], key: bytes | None) -> str:
    """A token that PyJWT would refuse to make; HMAC-SHA256 with ``key``, or no signature."""
    text = ".".join(_encoded(json.dumps(each).encode()) for each in (header, payload))
    signature = b"" if key is None else hmac.digest(key, text.encode(), "sha256")
    return f"{text}.{_encoded(signature)}"


def refused(algorithm: str = "HS256") -> Iterator[tuple[str, str]]:
    """Tokens that must be refused, each with what is wrong, where ``algorithm`` is accepted."""
    now, good = time.time(), signed(algorithm=algorithm)
    header, payload, signature = good.split(".")
    changes: dict[str, dict[str, Any]] = {
        "expired": {"exp": now - 0.5},
        "not yet valid": {"nbf": now + 60},
        "issued in the future": {"iat": now + 60},
        "exp more than 24 hours ahead": {"exp": now + 90_000},
        "no exp": {"exp": None},
        "no iat": {"iat": None},
        "no sub": {"sub": None},
        "exp is text": {"exp": "never"},
        "exp is infinite": {"exp": 1e400},
        "exp is true": {"exp": True},
        "iat is negative": {"iat": -1},
        "sub is a number": {"sub": 7},
        "other audience": {"aud": "other"},
        "no audience": {"aud": None},
        "scope is a list": {"scope": ["notifications:read"]},
        "too long": {"more": "x" * 5000},
    }
    for wrong, changed in changes.items():
        yield wrong, signed(algorithm=algorithm, **changed)
    kid = {"kid": algorithm}
    yield "other secret", jwt.encode(claims(), "x" * 40, "HS256", headers=kid)
    yield "other key", jwt.encode(claims(), private_key("RS256", 1), "RS256", headers={"kid": "RS256"})
    yield "HS512", jwt.encode(claims(), SECRET * 2, "HS512", headers=kid)
    for none in ("none", "None", "NONE", "", None):
        yield f"alg {none}", by_hand({"typ": "JWT", "alg": none, **kid}, claims(), None)
    yield "crit", by_hand({"alg": "HS256", "crit": ["exp"], **kid}, claims(), SECRET.encode())
    yield "tampered payload", f"{header}.{_encoded(json.dumps(claims('john')).encode())}.{signature}"
    yield "tampered signature", f"{header}.{payload}.{'A' * len(signature)}"
    yield "no signature", f"{header}.{payload}."
    yield "two parts", f"{header}.{payload}"
    yield "deep header", f"{_encoded(b'[' * 2000)}.{payload}.{signature}"
    if algorithm != "HS256":
        public = private_key(algorithm).public_key()
        forms = [public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)]
        forms += [
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            json.dumps(jwk(algorithm)).encode(),
        ]
        for form in forms:
            yield "public key as secret", by_hand({"alg": "HS256", **kid}, claims(), form)
            yield "public key as secret, its algorithm", by_hand({"alg": algorithm, **kid}, claims(), form)
        yield "unknown kid", jwt.encode(claims(), private_key(algorithm), algorithm, headers={"kid": "other"})
        yield "no kid", jwt.encode(claims(), private_key(algorithm), algorithm)
        other = "ES256" if algorithm == "RS256" else "RS256"
        yield "kid of another key", jwt.encode(claims(), private_key(algorithm), algorithm, headers={"kid": other})


def _encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

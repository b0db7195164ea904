"""Verification of signed tokens (JWTs), and the keys that the setting may name."""

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from microblog_rt import jwts
from microblog_rt.errors import JwtRefused, Misconfigured
from microblog_rt.jwts import Keys
from microblog_rt.settings import Settings
from tests import site_tokens
from tests.site_tokens import AUDIENCE, SECRET, claims, jwk, key_file, private_key, signed

ALGORITHMS = ["HS256", "RS256", "ES256", "EdDSA"]


def keys_for(algorithm: str, folder: Path) -> Keys:
    keys = jwts.parse(SECRET if algorithm == "HS256" else key_file(folder))
    assert keys is not None
    return keys


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_valid_token_gives_its_claims(algorithm: str, tmp_path: Path) -> None:
    now = int(time.time())
    text = signed(algorithm=algorithm, iat=now, exp=now + 60, scope=" a  b ")
    found = keys_for(algorithm, tmp_path).claims(text, AUDIENCE)
    assert found[:4] == ("visitor", now * 1_000_000, (now + 60) * 1_000_000, "a b")
    default = keys_for(algorithm, tmp_path).claims(signed(algorithm=algorithm), AUDIENCE)
    assert default.scopes == "notifications:read messages:read messages:send"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_invalid_tokens_are_refused(algorithm: str, tmp_path: Path) -> None:
    keys, accepted = keys_for(algorithm, tmp_path), []
    keys.claims(signed(algorithm=algorithm), AUDIENCE)  # the precondition
    for wrong, text in site_tokens.refused(algorithm):
        try:
            keys.claims(text, AUDIENCE)
        except JwtRefused:
            continue
        accepted.append(wrong)
    assert accepted == []


def test_token_that_was_verified_expires(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys, text, now = keys_for("HS256", tmp_path), signed(), time.time()
    keys.claims(text, AUDIENCE)
    monkeypatch.setattr(time, "time", lambda: now + 301)
    with pytest.raises(JwtRefused):
        keys.claims(text, AUDIENCE)


def test_audience_is_not_checked_unless_it_is_set(tmp_path: Path) -> None:
    for aud in ("other", None):
        assert keys_for("HS256", tmp_path).claims(signed(aud=aud), None).subject == "visitor"


def test_token_without_kid_is_checked_with_the_only_key(tmp_path: Path) -> None:
    keys = jwts.parse(key_file(tmp_path, jwk("ES256")))
    assert keys is not None
    assert keys.claims(jwt.encode(claims(), private_key("ES256"), "ES256"), None).subject == "visitor"


def test_kid_selects_the_key(tmp_path: Path) -> None:
    keys = jwts.parse(key_file(tmp_path, jwk("ES256", kid="a"), jwk("ES256", 1, kid="b")))
    assert keys is not None
    for number, kid in enumerate("ab"):
        text = jwt.encode(claims(), private_key("ES256", number), "ES256", headers={"kid": kid})
        assert keys.claims(text, None).subject == "visitor"
        with pytest.raises(JwtRefused):
            keys.claims(jwt.encode(claims(), private_key("ES256", 1 - number), "ES256", headers={"kid": kid}), None)


@pytest.mark.parametrize(
    "value",
    ["short", "x" * 40, "/no/such/file", "missing.json", "/etc/hostname.pem"],
)
def test_setting_that_is_no_key_stops_the_start(value: str) -> None:
    with pytest.raises(Misconfigured, match="MICROBLOG_JWT_KEY"):
        Settings.from_environ({"MICROBLOG_JWT_KEY": value})


@pytest.mark.parametrize(
    "keys",
    [
        [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}],
        [{**jwk("RS256"), "alg": "HS256"}],
        [{**jwk("ES256"), "d": "c2VjcmV0"}],
        [{**jwk("ES256"), "crv": "P-384"}],
        [jwk("RS256"), jwk("ES256", kid="RS256")],
        [{"kid": "a"}],
        ["a"],
        [{**jwk("RS256"), "n": "AQAB"}],
    ],
)
def test_key_file_that_is_not_safe_stops_the_start(keys: list[Any], tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="MICROBLOG_JWT_KEY"):
        Settings.from_environ({"MICROBLOG_JWT_KEY": key_file(tmp_path, *keys)})


def test_empty_setting_accepts_no_signed_token() -> None:
    assert Settings.from_environ({"MICROBLOG_JWT_KEY": "", "MICROBLOG_JWT_AUDIENCE": ""}) == Settings()
    assert SECRET not in repr(Settings.from_environ({"MICROBLOG_JWT_KEY": SECRET}))

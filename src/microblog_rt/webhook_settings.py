"""The settings of webhooks: a part of ``Settings``."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from microblog_rt.errors import Misconfigured
from microblog_rt.keys import is_weak, split_keys

SECRET_LENGTH = 32


@dataclass(frozen=True, kw_only=True)
class WebhookSettings:
    """Validated settings of webhooks, which are off without a URL."""

    webhook_url: str | None = field(default=None, repr=False)  # its path may be a secret
    webhook_secret: str | None = field(default=None, repr=False)  # several are separated by commas or spaces
    webhook_after: float = 30.0
    webhook_private: bool = False


def check(settings: WebhookSettings, heartbeat: float) -> None:
    """Raise `Misconfigured` if the settings do not fit together."""
    if settings.webhook_url is None:
        return
    if settings.webhook_secret is None:
        raise Misconfigured("MICROBLOG_WEBHOOK_SECRET: must be set, since MICROBLOG_WEBHOOK_URL is")
    if not settings.webhook_private and not settings.webhook_url.startswith("https:"):
        raise Misconfigured("MICROBLOG_WEBHOOK_URL: must be https, or MICROBLOG_WEBHOOK_PRIVATE=1 must be set")
    if settings.webhook_after <= heartbeat:
        raise Misconfigured(
            "MICROBLOG_WEBHOOK_AFTER: must be longer than MICROBLOG_HEARTBEAT, in which tabs acknowledge"
        )
    if find_spec("httpx") is None:
        raise Misconfigured("MICROBLOG_WEBHOOK_URL: requires httpx; pip install 'microblog-rt[webhooks]'")


def _url(text: str) -> str | None:
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.port == 0:
        raise ValueError("must be https://HOST/PATH")
    if "@" in parts.netloc or parts.fragment or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be https://HOST/PATH in ASCII, without a user, a password or a fragment")
    return text


def _secrets(text: str) -> str:
    if any(is_weak(each, SECRET_LENGTH) for each in split_keys(text)):
        raise ValueError(
            f"must be random and have at least {SECRET_LENGTH} characters; commas and spaces separate several secrets"
        )
    return text


def _after(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:
        raise ValueError("must be a number of seconds above 0, at most 86400")
    return seconds


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return text == "1"


PARSERS: dict[str, Callable[[str], Any]] = {
    "webhook_url": _url,
    "webhook_secret": _secrets,
    "webhook_after": _after,
    "webhook_private": _flag,
}

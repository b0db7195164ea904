"""The settings of registration and mail: a part of ``Settings``."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parseaddr
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from microblog_rt.errors import Misconfigured

ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+")
CONTACT_LENGTH = 200
OPEN, INVITE, CLOSED = "open", "invite", "closed"


@dataclass(frozen=True, kw_only=True)
class AccountSettings:
    """Validated settings of registration, and of mail, which is off without a URL."""

    registration: str = OPEN
    smtp_url: str | None = field(default=None, repr=False)
    mail_from: str | None = None
    contact: str | None = None


def check(settings: AccountSettings, public_url: str | None) -> None:
    """Raise `Misconfigured` if the settings do not fit together."""
    if settings.smtp_url is None:
        return
    if settings.mail_from is None:
        raise Misconfigured("MICROBLOG_MAIL_FROM: must be set, since MICROBLOG_SMTP_URL is")
    if public_url is None:
        raise Misconfigured(
            "MICROBLOG_PUBLIC_URL: must be set, since MICROBLOG_SMTP_URL is: the links in mails begin with it"
        )
    if find_spec("aiosmtplib") is None:
        raise Misconfigured("MICROBLOG_SMTP_URL: requires aiosmtplib; pip install 'microblog-rt[mail]'")


def _registration(text: str) -> str:
    if text not in (OPEN, INVITE, CLOSED):
        raise ValueError(f"must be {OPEN}, {INVITE} or {CLOSED}")
    return text


def _smtp_url(text: str) -> str | None:
    if not text:
        return None
    wanted = "must be smtp://USER:PASSWORD@HOST:PORT or smtps://..., with special characters percent-encoded"
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0
    except ValueError:
        whole = None
    if not whole or parts.path.strip("/") or parts.query or parts.fragment or parts.netloc.count("@") > 1:
        raise ValueError(wanted)
    if not text.isascii() or not text.isprintable() or (parts.username is None) != (parts.password is None):
        raise ValueError(wanted)
    return text


def _mail_from(text: str) -> str | None:
    if not text:
        return None
    name, address = parseaddr(text)
    if not ADDRESS.fullmatch(address) or not text.isprintable() or not (name or text == address):
        raise ValueError("must be one address, as noreply@example.org or Microblog <noreply@example.org>")
    return text


def _contact(text: str) -> str | None:
    if len(text) > CONTACT_LENGTH or not text.isprintable():
        raise ValueError(f"must be one line of at most {CONTACT_LENGTH} characters")
    return text or None


PARSERS: dict[str, Callable[[str], Any]] = {
    "registration": _registration,
    "smtp_url": _smtp_url,
    "mail_from": _mail_from,
    "contact": _contact,
}

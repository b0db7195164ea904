"""What a name, an e-mail address and a password must be."""

import asyncio
import re
import unicodedata
from collections.abc import Iterator
from functools import cache

import regex

from microblog_rt import names
from microblog_rt.errors import Invalid
from microblog_rt.models import EMAIL_LENGTH, USERNAME_LENGTH

# An identifier of Unicode Standard Annex 31 with "." and "-" inside; no invisible characters, no pile of marks.
USERNAME = regex.compile(
    r"""(?V1x) (?!.*\p{Mn}{5}) (?!.*\p{Default_Ignorable_Code_Point})
    \p{XID_Start} (?: [\p{XID_Continue}.\-]* \p{XID_Continue} )?"""
)
USERNAME_LENGTHS = range(2, USERNAME_LENGTH + 1)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
PASSWORD_LENGTHS = range(8, 1025)

# Names that could be taken for the operator's, and the first segments of all routes.
OFFICIAL = {"admin", "administrator", "help", "microblog", "moderator", "root", "security", "support", "system"}
ROUTES = {"auth", "healthz", "messages", "metrics", "notifications", "readyz", "send_message", "static", "user"}


async def faults(username: str, password: str, email: str | None) -> list[Invalid]:
    """Everything that is wrong with a registration, except a name that is taken or looks like one that is."""
    await asyncio.to_thread(_reserved_skeletons)  # loads the data
    return [*_name_faults(username), *_email_faults(email), *await password_faults(password, username)]


async def password_faults(password: str, username: str) -> list[Invalid]:
    """What is wrong with a password for that user."""
    least, most = PASSWORD_LENGTHS[0], PASSWORD_LENGTHS[-1]
    if len(password) not in PASSWORD_LENGTHS:
        return [Invalid("password", "password_length", least=least, most=most)]
    if names.key(password) == names.key(username) or await asyncio.to_thread(_is_common, password.lower()):
        return [Invalid("password", "password_too_common")]
    return []


def _name_faults(username: str) -> Iterator[Invalid]:
    name = names.normalized(username)
    if not (USERNAME.fullmatch(name) and _fits(name) and _is_stable(name)):
        least, most = USERNAME_LENGTHS[0], USERNAME_LENGTHS[-1]
        yield Invalid("username", "username_format", least=least, most=most)
    elif names.skeleton(name) in _reserved_skeletons():
        yield Invalid("username", "username_reserved")


def _fits(name: str) -> bool:
    return len(name) in USERNAME_LENGTHS and len(names.key(name)) in USERNAME_LENGTHS  # "ß" becomes "ss"


def _is_stable(name: str) -> bool:
    """Whether a newer Python gives the name the same key: it has no character that this one does not know."""
    return all(unicodedata.category(each) != "Cn" for each in name)


@cache
def _reserved_skeletons() -> frozenset[str]:
    return frozenset(names.skeleton(each) for each in OFFICIAL | ROUTES)


def _email_faults(email: str | None) -> Iterator[Invalid]:
    if email and (len(email) > EMAIL_LENGTH or not EMAIL.fullmatch(email)):
        yield Invalid("email", "email_format")


def _is_common(password: str) -> bool:
    return password in _common_passwords()


@cache
def _common_passwords() -> frozenset[str]:
    # 50 ms and 14 MB: loaded only when a password is set, and in a thread.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(each for each in FREQUENCY_LISTS["passwords"] if len(each) in PASSWORD_LENGTHS)

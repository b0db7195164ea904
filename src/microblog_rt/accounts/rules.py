"""What a name, an e-mail address and a password must be."""

import asyncio
import re
import unicodedata
from collections.abc import Iterator
from functools import cache

import regex

from microblog_rt import names
from microblog_rt.accounts.passwords import LONGEST, normalized
from microblog_rt.accounts.strength import SHORTEST, weakness
from microblog_rt.errors import Invalid
from microblog_rt.models import EMAIL_LENGTH, USERNAME_LENGTH

# An identifier of Unicode Standard Annex 31 with "." and "-" inside; no invisible characters, no pile of marks.
USERNAME = regex.compile(
    r"""(?V1x) (?!.*\p{Mn}{5}) (?!.*\p{Default_Ignorable_Code_Point})
    \p{XID_Start} (?: [\p{XID_Continue}.\-]* \p{XID_Continue} )?"""
)
USERNAME_LENGTHS = range(2, USERNAME_LENGTH + 1)
# Without the "specials" of RFC 5322, with which a mail's header would name other recipients.
EMAIL = re.compile(r"""[^@\s"(),:;<>\[\\\]]+@[^@\s"(),:;<>\[\\\]]+\.[^@\s"(),:;<>\[\\\]]+""")
PASSWORD_LENGTHS = range(SHORTEST, LONGEST + 1)
LONGEST_WORD = EMAIL_LENGTH  # of what the estimator is given

# Names that could be taken for the operator's, and the first segments of all routes.
OFFICIAL = {"admin", "administrator", "api", "help", "microblog", "moderator", "root", "security", "support", "system"}
ROUTES = {
    "account",
    "auth",
    "docs",
    "healthz",
    "messages",
    "metrics",
    "notifications",
    "readyz",
    "send_message",
    "static",
}
ROUTES |= {
    "edit_profile",
    "explore",
    "follow",
    "index",
    "mentions",
    "people",
    "post",
    "posts",
    "preferences",
    "unfollow",
}
ROUTES |= {"user"}


async def faults(username: str, password: str, email: str | None, site: str = "") -> list[Invalid]:
    """Everything that is wrong with a registration, except a name that is taken or looks like one that is."""
    await asyncio.to_thread(_reserved_skeletons)  # loads the data
    wrong_password = await password_faults(password, username, email or "", site)
    return [*_name_faults(username), *email_faults(email), *wrong_password]


async def name_faults(username: str) -> list[Invalid]:
    """Everything that is wrong with a name, except that it is taken or looks like one that is."""
    await asyncio.to_thread(_reserved_skeletons)  # loads the data
    return list(_name_faults(username))


async def password_faults(password: str, *words: str) -> list[Invalid]:
    """What is wrong with a password; ``words``: the user's name and e-mail address, and the site's host."""
    if not all(len(each) in PASSWORD_LENGTHS for each in (password, normalized(password))):
        return [Invalid("password", "password_length", least=PASSWORD_LENGTHS[0], most=PASSWORD_LENGTHS[-1])]
    reason = await weakness(normalized(password), *(word[:LONGEST_WORD] for word in words))
    return [Invalid("password", reason)] if reason else []


def _name_faults(username: str) -> Iterator[Invalid]:
    name = names.normalized(username) if len(username) <= names.LONGEST else ""
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


def email_faults(email: str | None) -> Iterator[Invalid]:
    """What is wrong with an e-mail address; without one, nothing."""
    if email and (len(email) > EMAIL_LENGTH or not email.isprintable() or not EMAIL.fullmatch(email)):
        yield Invalid("email", "email_format")

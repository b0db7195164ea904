"""What a name, an e-mail address and a password must be."""

import asyncio
import re
from collections.abc import Iterator
from functools import cache

from microblog_rt.errors import Invalid
from microblog_rt.models import EMAIL_LENGTH, USERNAME_LENGTH

USERNAME = re.compile(rf"[A-Za-z0-9_.-]{{2,{USERNAME_LENGTH}}}")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
PASSWORD_LENGTHS = range(8, 1025)


async def faults(username: str, password: str, email: str | None) -> list[Invalid]:
    """Everything that is wrong with a registration, except a name that is taken."""
    return [*_name_faults(username), *_email_faults(email), *await password_faults(password, username)]


async def password_faults(password: str, username: str) -> list[Invalid]:
    """What is wrong with a password for that user."""
    least, most = PASSWORD_LENGTHS[0], PASSWORD_LENGTHS[-1]
    if len(password) not in PASSWORD_LENGTHS:
        return [Invalid("password", "password_length", least=least, most=most)]
    if password.lower() == username.lower() or await asyncio.to_thread(_is_common, password.lower()):
        return [Invalid("password", "password_too_common")]
    return []


def _name_faults(username: str) -> Iterator[Invalid]:
    if not USERNAME.fullmatch(username):
        yield Invalid("username", "username_format")
    # Browsers resolve /user/.. as the parent path.
    elif not username.strip("."):
        yield Invalid("username", "username_only_dots")


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

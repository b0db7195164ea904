"""Which passwords are refused as easy to guess, by the estimator zxcvbn."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from math import prod

from microblog_rt.errors import TooMany

LEAST_SCORE = 2  # of 4: more than a million guesses
MOST_COMMON = 3000
SHORTEST = 8  # code points
JUDGED = 40  # code points: the estimator takes seconds for a long password
SHORTEST_JUDGED = 12
MOST_SPELLINGS = 16
WORD = re.compile(r"[^\W_]{3,}")

SITE = "microblog"

WAITING = 32  # requests
WAITING_OF_ADDRESS = 8  # several people behind one address may register at once

# One thread: zxcvbn keeps the words of a call in a global variable. Its own, since what waits for it would fill the
# threads that check passwords.
_thread = ThreadPoolExecutor(1, "zxcvbn")


class Turns:
    """Bounds how many passwords wait to be judged: the estimator takes up to 0.1 s of a core for each."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def turn(self, address: str) -> Iterator[None]:
        """Take one of the ``WAITING`` places, of which an address gets ``WAITING_OF_ADDRESS``; "" is no address.

        Raises TooMany.
        """
        if self._waiting.total() >= WAITING or (address and self._waiting[address] >= WAITING_OF_ADDRESS):
            raise TooMany(1)
        self._waiting[address] += 1
        try:
            yield
        finally:
            self._waiting[address] -= 1
            self._waiting += Counter()  # without what is zero


async def weakness(password: str, *words: str) -> str | None:
    """The reason for which ``password`` is easy to guess; None if it is not. ``words``: of the user and the site."""
    return await asyncio.get_running_loop().run_in_executor(_thread, _weakness, password, words)


def _weakness(password: str, words: tuple[str, ...]) -> str | None:
    # 50 ms and 14 MB: loaded only when a password is set, and in a thread.
    from zxcvbn import zxcvbn

    if password.lower() in _most_common():
        return "password_too_common"
    own = _parts([SITE, *words])
    result = zxcvbn(_judged(password), user_inputs=list(own))
    if result["score"] >= LEAST_SCORE:
        return None
    if any(match.get("matched_word") in own for match in result["sequence"]):
        return "password_personal"
    lists = {match.get("dictionary_name") for match in result["sequence"]}
    return "password_too_common" if lists == {"passwords"} else "password_too_simple"


def _parts(words: list[str]) -> set[str]:
    """The words and what they consist of, in lower case: of susan.smith@example.org also “smith”."""
    return {part.lower() for word in words for part in [word, *word.split("@"), *WORD.findall(word)] if part}


def _judged(password: str) -> str:
    """The beginning of the password, which is as good as the whole, for which the estimator takes at most 0.1 s."""
    length = min(len(password), JUDGED)
    while length > SHORTEST_JUDGED and _spellings(password[:length]) > MOST_SPELLINGS:
        length -= 1
    return password[:length]


def _spellings(password: str) -> int:
    """In how many ways its characters can stand for letters, as in “p4$$w0rd”: the estimator tries each."""
    from zxcvbn.matching import L33T_TABLE

    present = Counter(letter for letter, signs in L33T_TABLE.items() for sign in signs if sign in password)
    return prod(present.values())


@cache
def _most_common() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    long_enough = [each for each in FREQUENCY_LISTS["passwords"] if len(each) >= SHORTEST]
    return frozenset(long_enough[:MOST_COMMON])

"""Which passwords are refused as easy to guess, by the estimator zxcvbn."""

import asyncio
import re
import threading
from collections import Counter
from functools import cache
from math import prod

LEAST_SCORE = 2  # of 4: more than a million guesses
MOST_COMMON = 3000
SHORTEST = 8  # code points
JUDGED = 40  # code points: the estimator takes seconds for a long password
SHORTEST_JUDGED = 12
MOST_SPELLINGS = 16
WORD = re.compile(r"[^\W_]{3,}")

SITE = "microblog"

# zxcvbn keeps the words of a call in a global variable, and its threads would only wait for each other.
_one_at_a_time = threading.Lock()


async def weakness(password: str, *words: str) -> str | None:
    """The reason for which ``password`` is easy to guess; None if it is not. ``words``: of the user and the site."""
    return await asyncio.to_thread(_weakness, password, words)


def _weakness(password: str, words: tuple[str, ...]) -> str | None:
    # 50 ms and 14 MB: loaded only when a password is set, and in a thread.
    from zxcvbn import zxcvbn

    if password.lower() in _most_common():
        return "password_too_common"
    own = _parts([SITE, *words])
    with _one_at_a_time:
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

"""Names of accounts as they are compared: the key, which is unique, and the skeleton, equal for names that look alike.

See also: ``accounts/rules.py``, what a new name must be.
"""

import unicodedata
from functools import cache

from microblog_rt.models import USERNAME_LENGTH, USERNAME_SKELETON_LENGTH

LONGEST = 4 * USERNAME_LENGTH  # NFKC makes four code points one at most, and can take quadratic time
CAPITAL_I = "?"  # stands for every letter that looks like it; no name contains it
SAME = str.maketrans("i?", "ll")


def normalized(name: str) -> str:
    """The name in NFKC, as it is stored and shown."""
    return unicodedata.normalize("NFKC", name)


def key(name: str) -> str:
    """The form that identifies an account: NFKC, case folded. Equal to ``name.lower()`` for ASCII.

    Of a name that is too long for every account, only the beginning.
    """
    return normalized(normalized(name[:LONGEST]).casefold())


def skeleton(name: str) -> str:
    """The skeleton of Unicode Technical Standard 39, in lower case; i, I, l and 1 are equal. At most 256 code points.

    The first call takes about 60 ms.
    """
    return _lower_skeleton(name).translate(SAME)[:USERNAME_SKELETON_LENGTH]


def look_alike(one: str, other: str) -> bool:
    """Whether two names of the same skeleton look alike: a capital I looks like i and like l, but i not like l."""
    pairs = zip(_lower_skeleton(one), _lower_skeleton(other), strict=False)
    return all(a == b or CAPITAL_I in (a, b) for a, b in pairs)


def _lower_skeleton(name: str) -> str:
    # Twice: some letters are alike in upper case only, others in lower case only.
    decomposed = unicodedata.normalize("NFD", normalized(name))
    marked = "".join(CAPITAL_I if each.isupper() and _is_l(each) else each for each in decomposed)
    return _mapped(_mapped(marked).casefold()).casefold()


def _is_l(letter: str) -> bool:
    return _prototypes().get(letter) == "l"


def _mapped(name: str) -> str:
    prototypes = _prototypes()
    decomposed = unicodedata.normalize("NFD", name)
    return unicodedata.normalize("NFD", "".join(prototypes.get(each, each) for each in decomposed))


@cache
def _prototypes() -> dict[str, str]:
    """The character or sequence that stands for each confusable character."""
    from confusable_homoglyphs.utils import load  # about 1 MB of data

    alike = {source: [each["c"] for each in found] for source, found in load("confusables.json").items()}
    return {source: _prototype(source, alike) for source in alike if len(source) == 1}


def _prototype(source: str, alike: dict[str, list[str]]) -> str:
    # The data is symmetric. A prototype is alike to all its sources, and a source only to its prototype.
    if len(alike[source]) > 1:
        return source
    (other,) = alike[source]
    if len(alike[other]) == 1 and (len(other), other) < (len(source), source):
        return source  # a pair in which either could be the prototype
    return other.replace("\N{LEFT-TO-RIGHT MARK}", "")

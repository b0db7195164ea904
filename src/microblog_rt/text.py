"""What every database can store as text; what counts as a message's text, and its length.

See also: ``static/rt/counter.js``, which counts the same way (``tests/text_cases.json``).
"""

import re
import unicodedata

import regex

from microblog_rt.errors import Invalid
from microblog_rt.models import MESSAGE_CODE_POINTS

LENGTH = 140

# \X is an extended grapheme cluster: what a reader takes for one character. The tables are those of ``regex``, so
# that characters newer than this Python count as text. U+2800 is the Braille pattern without dots.
CLUSTER = regex.compile(r"\X")
NOT_BLANK = regex.compile(r"(?V1)[^\p{Default_Ignorable_Code_Point}\p{White_Space}\p{Cc}\u2800]")
VISIBLE = regex.compile(r"(?V1)[^\p{Default_Ignorable_Code_Point}\p{White_Space}\p{Cc}\u2800\p{M}]")
NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether PostgreSQL and SQLite both store ``text``: it has no NUL character and no lone surrogate."""
    return NOT_STORABLE.search(text) is None


def checked(body: str) -> str:
    """The text as it is stored: in NFC, newlines as ``\\n``, no white space or invisible characters at either end.

    Raises Invalid for a text without visible characters, of more than 140 characters (grapheme clusters), or of more
    than 1,400 code points, so that PostgreSQL can store it.
    """
    clusters = _clusters(body)
    text = "".join(clusters)
    if not VISIBLE.search(text):
        raise Invalid("message", "message_empty")
    if len(clusters) > LENGTH:
        raise Invalid("message", "message_too_long", length=len(clusters), limit=LENGTH)
    if len(text) > MESSAGE_CODE_POINTS:
        raise Invalid("message", "message_too_complex", length=len(text), limit=MESSAGE_CODE_POINTS)
    return text


def _clusters(body: str) -> list[str]:
    """The grapheme clusters of the normalized text, without blank ones at either end."""
    body = body.replace("\r\n", "\n")
    clusters = CLUSTER.findall(unicodedata.normalize("NFC", body))
    while clusters and not NOT_BLANK.search(clusters[-1]):
        clusters.pop()
    first = next((index for index, each in enumerate(clusters) if NOT_BLANK.search(each)), 0)
    return clusters[first:]

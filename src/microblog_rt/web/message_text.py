"""A message's text as HTML: links for http and https addresses, and what is hidden behind "Show more"."""

from typing import NamedTuple
from urllib.parse import urlsplit

import regex
from linkify_it import LinkifyIt
from markupsafe import Markup, escape

LINES = 10  # shown at once

LINK = Markup('<a href="{url}" rel="nofollow noopener" dir="ltr">{url}</a>')
# Such characters could make an address look like another one.
DECEPTIVE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cc}\p{White_Space}]")
# Unicode names are not linked: their letters can look like those of another name.
HOST = regex.compile(r"[A-Za-z0-9.-]+(?::[0-9]*)?")

_find = LinkifyIt(
    schemas={"ftp:": None, "mailto:": None, "//": None},
    options={"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False},
).match


class MessageText(NamedTuple):
    """The HTML of the first lines and of the others, which may be empty."""

    first: Markup
    rest: Markup


def message_text(body: str) -> MessageText:
    """The HTML of a message's text, escaped."""
    lines = body.split("\n")
    return MessageText(_linked("\n".join(lines[:LINES])), _linked("\n".join(lines[LINES:])))


def _linked(text: str) -> Markup:
    parts, end = [], 0
    for each in _find(text) or []:
        if _is_clear(each.raw):
            parts += [escape(text[end : each.index]), LINK.format(url=each.raw)]
            end = each.last_index
    return Markup().join([*parts, escape(text[end:])])


def _is_clear(url: str) -> bool:
    """Whether the address leads where it seems to: no invisible characters, an ASCII host without a user name."""
    try:
        return not DECEPTIVE.search(url) and HOST.fullmatch(urlsplit(url).netloc) is not None
    except ValueError:
        return False

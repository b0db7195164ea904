"""A message's text as HTML: links for http and https addresses, and what is hidden behind "Show more"."""

from typing import NamedTuple
from urllib.parse import urlsplit

import regex
from markupsafe import Markup, escape

from microblog_rt import spans

LINES = 10  # shown at once

LINK = Markup('<a href="{url}" rel="nofollow noopener" dir="ltr">{url}</a>')
# Such characters could make an address look like another one.
DECEPTIVE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cc}\p{White_Space}]")
# Unicode names are not linked: their letters can look like those of another name.
HOST = regex.compile(r"[A-Za-z0-9.-]+(?::[0-9]*)?")


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
    for each in spans.urls(text):
        if _is_clear(each.value):
            parts += [escape(text[end : each.start]), LINK.format(url=each.value)]
            end = each.end
    return Markup().join([*parts, escape(text[end:])])


def _is_clear(url: str) -> bool:
    """Whether the address leads where it seems to: no invisible characters, an ASCII host without a user name."""
    try:
        return not DECEPTIVE.search(url) and HOST.fullmatch(urlsplit(url).netloc) is not None
    except ValueError:
        return False

"""A text as HTML: links for http and https addresses and for mentions, and what is hidden behind "Show more"."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import regex
from markupsafe import Markup, escape
from quart import url_for

from microblog_rt import names, spans

LINES = 10  # shown at once

MENTION = Markup('<a href="{url}" class="mention"><bdi>{text}</bdi></a>')
LINK = Markup('<a href="{url}" rel="nofollow noopener" dir="ltr">{url}</a>')
# Such characters could make an address look like another one.
DECEPTIVE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cc}\p{White_Space}]")
# Unicode names are not linked: their letters can look like those of another name.
HOST = regex.compile(r"[A-Za-z0-9.-]+(?::[0-9]*)?")


class MessageText(NamedTuple):
    """The HTML of the first lines and of the others, which may be empty."""

    first: Markup
    rest: Markup


def message_text(body: str, mentioned: Mapping[str, str] | None = None) -> MessageText:
    """The HTML of a text, escaped; also with links to the users ``mentioned``, the names by their keys."""
    lines = body.split("\n")
    first, rest = ["\n".join(some) for some in (lines[:LINES], lines[LINES:])]
    return MessageText(_linked(first, mentioned or {}), _linked(rest, mentioned or {}))


def _linked(text: str, mentioned: Mapping[str, str]) -> Markup:
    parts, end = [], 0
    for start, link_end, link in sorted([*_addresses(text), *_mentions(text, mentioned)]):
        parts += [escape(text[end:start]), link]
        end = link_end
    return Markup().join([*parts, escape(text[end:])])


def _addresses(text: str) -> Iterator[tuple[int, int, Markup]]:
    for each in spans.urls(text):
        if _is_clear(each.value):
            yield each.start, each.end, LINK.format(url=each.value)


def _mentions(text: str, mentioned: Mapping[str, str]) -> Iterator[tuple[int, int, Markup]]:
    for each in spans.mentions(text) if mentioned else ():
        name = mentioned.get(names.key(each.value))
        if name is not None:
            written = MENTION.format(url=url_for("people.user", username=name), text=text[each.start : each.end])
            yield each.start, each.end, written


def _is_clear(url: str) -> bool:
    """Whether the address leads where it seems to: no invisible characters, an ASCII host without a user name."""
    try:
        return not DECEPTIVE.search(url) and HOST.fullmatch(urlsplit(url).netloc) is not None
    except ValueError:
        return False

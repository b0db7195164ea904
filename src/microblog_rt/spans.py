"""Where a text has addresses of pages and names of users."""

from collections.abc import Iterator
from typing import NamedTuple

import regex
from linkify_it import LinkifyIt

from microblog_rt.models import USERNAME_LENGTH

# After a letter, "@" belongs to an e-mail address, and before another "@" the name does: neither is a mention.
NAME = regex.compile(
    rf"""(?V1x) (?<![\p{{XID_Continue}}@/.+\-]) @
    ( \p{{XID_Start}} (?: [.\-]*+ \p{{XID_Continue}} ){{0,{4 * USERNAME_LENGTH}}}+ ) (?!@)"""
)

_find = LinkifyIt(
    schemas={"ftp:": None, "mailto:": None, "//": None},
    options={"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False},
).match


class Span(NamedTuple):
    """A part of a text: the indices of its first character and of the one after it; the address or the name."""

    start: int
    end: int
    value: str


def urls(text: str) -> list[Span]:
    """The http and https addresses in ``text``."""
    return [Span(each.index, each.last_index, each.raw) for each in _find(text) or []]


def mentions(text: str) -> Iterator[Span]:
    """The names after "@" in ``text``, outside addresses, as they are written; a span begins with the "@"."""
    addresses = urls(text)
    for each in NAME.finditer(text):
        if not any(address.start <= each.start() < address.end for address in addresses):
            yield Span(each.start(), each.end(), each[1])

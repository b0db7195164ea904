"""What pages take from their request and application: the services, the key that a page begins at,
and the interval that a form marks as read."""

import re
from collections.abc import Callable
from typing import TypeVar, cast
from urllib.parse import urlencode

from quart import current_app, request

from microblog_rt import protocol
from microblog_rt.errors import BadRequest
from microblog_rt.services import Services
from microblog_rt.storage.pages import Page

T = TypeVar("T")

POST_ID = re.compile(r"[0-9]{1,18}")


def services() -> Services:
    """The services of the application that answers the current request."""
    return cast(Services, current_app.extensions["services"])


def page_key(parse: Callable[[str], T], *names: str) -> dict[str, T]:
    """The query's ``before`` or ``after``, or another of ``names``, parsed; empty on the first page. Raises BadRequest.

    ``parse`` raises ValueError for a malformed key.
    """
    names = names or ("before", "after")
    given = [(name, value) for name, value in request.args.items(multi=True) if name in names]
    try:
        if len(given) > 1:
            raise ValueError
        return {name: parse(value) for name, value in given}
    except ValueError:
        raise BadRequest("page_key_format") from None


def post_id(text: str) -> int:
    """The id of a post as a key of a page. Raises ValueError."""
    if not POST_ID.fullmatch(text):
        raise ValueError("not an id")
    return int(text)


async def interval() -> tuple[int, int]:
    """The form's ``from`` and ``up_to``; by default everything."""
    return await cursor_field("from", 0), await cursor_field("up_to", protocol.FURTHEST)


async def cursor_field(field: str, default: int) -> int:
    """The cursor in a field of the form. Raises BadRequest."""
    sent = (await request.form).getlist(field)
    try:
        if len(sent) > 1:
            raise ValueError
        return protocol.parse_cursor(sent[0]) if sent else default
    except ValueError:
        raise BadRequest("mark_format", field=field) from None


def page_links(page: Page[T], key: Callable[[T], str], previous: str = "before", next: str = "after") -> dict[str, str]:
    """The addresses of the pages on either side, for the template; ``previous`` and ``next`` name the keys."""
    links = {}
    if page.rows and page.previous:
        links["previous_url"] = _link(previous, key(page.rows[0]))
    if page.rows and page.next:
        links["next_url"] = _link(next, key(page.rows[-1]))
    return links


def _link(name: str, key: str) -> str:
    return f"{request.root_path}{request.path}?{urlencode({name: key})}"

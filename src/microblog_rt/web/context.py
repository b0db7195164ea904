"""What pages take from their request and application: the services, and the key that a page begins at."""

from collections.abc import Callable
from typing import TypeVar, cast
from urllib.parse import urlencode

from quart import current_app, request

from microblog_rt.errors import BadRequest
from microblog_rt.services import Services
from microblog_rt.storage.pages import Page

T = TypeVar("T")


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

"""What pages take from their request and application: the services, and the page number."""

import re
from collections.abc import Mapping, Sized
from typing import cast

from quart import current_app

from microblog_rt.errors import NotFound
from microblog_rt.services import Services

PAGE_NUMBER = re.compile(r"[1-9][0-9]{0,11}")


def services() -> Services:
    """The services of the application that answers the current request."""
    return cast(Services, current_app.extensions["services"])


def page_number(query: Mapping[str, str]) -> int:
    """The query's page number, from 1 (default 1); raises NotFound if it is malformed."""
    page = query.get("page", "1")
    if not PAGE_NUMBER.fullmatch(page):
        raise NotFound("page_not_found")
    return int(page)


def check_page(page: int, items: Sized) -> None:
    """Raise NotFound for a page past the end; the first page may be empty."""
    if page > 1 and not items:
        raise NotFound("page_not_found")

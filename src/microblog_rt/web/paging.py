"""Page numbers out of a query."""

import re
from collections.abc import Mapping, Sized

from microblog_rt.errors import N_, NotFound

NUMBER = re.compile(r"[1-9][0-9]{0,11}")
NO_SUCH_PAGE = N_("There is no such page.")


def number(query: Mapping[str, str]) -> int:
    """The page that a query asks for, from 1; raises NotFound for what is no page's number."""
    wanted = query.get("page", "1")
    if not NUMBER.fullmatch(wanted):
        raise NotFound(NO_SUCH_PAGE)
    return int(wanted)


def check(page: int, shown: Sized) -> None:
    """Raise NotFound for a page past the end; the first page may be empty."""
    if page > 1 and not shown:
        raise NotFound(NO_SUCH_PAGE)

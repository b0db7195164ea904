"""The longest body of a request: shorter without a session, since anybody can send those."""

from typing import Any

from quart import Request

LONGEST_BODY = 64 * 1024  # bytes
ANONYMOUS_BODY = 4 * 1024

BODY_LIMIT = "microblog_rt.body_limit"  # in a request's scope


class LimitedRequest(Request):
    """A request whose body may be as long as its scope says."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.limit: int = more["scope"].get(BODY_LIMIT, LONGEST_BODY)
        super().__init__(*args, **more | {"max_content_length": self.limit})

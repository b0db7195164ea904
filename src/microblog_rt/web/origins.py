"""Which origins may send a request, and the CORS header fields for those of other sites (WHATWG Fetch).

Pages of another site are allowed only with an access token, and only from ``MICROBLOG_ALLOWED_ORIGINS``: a cookie is
sent by a browser without being asked, so requests with cookies come from the own origin.
"""

from collections.abc import Iterable

from microblog_rt.settings import Settings
from microblog_rt.web.authentication import bearer_token
from microblog_rt.web.hosts import check_origin

Headers = list[tuple[bytes, bytes]]

EXPOSED = b"Heartbeat, Poll-After, Retry-After, WWW-Authenticate"
ACCEPTED = b"Accept, Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
PREFLIGHT_VALID = b"7200"  # seconds


class Origins:
    """The origins that are allowed with an access token, beside the own."""

    def __init__(self, settings: Settings) -> None:
        self._public_url = settings.public_url
        self._allowed = {each.encode() for each in settings.allowed_origins or ()}

    def check(self, headers: Headers, *, required: bool = False) -> None:
        """Raise OriginForeign for an origin that is not allowed, OriginMissing if there is none although ``required``.

        With an access token none is required.
        """
        if bearer_token(headers) is None:
            check_origin(headers, self._public_url, required=required)
        elif not self._is_allowed(headers):
            check_origin([field for field in headers if field[0] != b"sec-fetch-site"], self._public_url)

    def fields(self, headers: Headers) -> Headers:
        """The CORS header fields of the response to a request."""
        if not self._allowed:
            return []
        if not self._is_allowed(headers):
            return [(b"vary", b"Origin")]
        (origin,) = _origins(headers)
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
        ]

    def preflight(self, method: str, headers: Headers, allowed: Iterable[str]) -> Headers | None:
        """The header fields that allow the methods ``allowed``; None if this is no preflight of an allowed origin."""
        asks = any(name == b"access-control-request-method" for name, _ in headers)
        if method != "OPTIONS" or not asks or not self._is_allowed(headers):
            return None
        return [
            (b"access-control-allow-methods", ", ".join(sorted(allowed)).encode()),
            (b"access-control-allow-headers", ACCEPTED),
            (b"access-control-max-age", PREFLIGHT_VALID),
        ]

    def _is_allowed(self, headers: Headers) -> bool:
        origins = _origins(headers)
        return len(origins) == 1 and origins[0] in self._allowed


def _origins(headers: Headers) -> list[bytes]:
    return [value for name, value in headers if name == b"origin"]

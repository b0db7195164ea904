"""What the client raises.

ClientError
├── Unreachable         no valid response in time; a write may have been carried out, so repeat it with the same key
└── Rejected            the server refuses: ``status``, ``code``, ``detail``, ``retry_after``
    ├── SignedOut       401: the token or session has ended
    ├── Forbidden       403: not allowed
    ├── NotFound        404: no such user
    ├── Invalid         400, 409, 413, 422: the request has an unacceptable value
    │   └── KeyReused   an Idempotency-Key that was used for another request
    ├── TooMany         429: over a limit
    └── Unavailable     502, 503, 504: a temporary failure; as for Unreachable, the outcome of a write is unknown
"""


class ClientError(Exception):
    """Anything that the client raises."""


class Unreachable(ClientError):
    """No valid response in time. A write may have been carried out: repeat it with the same key."""


class Rejected(ClientError):
    """The server refuses.

    ``status`` is the HTTP status, ``code`` the stable code of the problem (empty if the response is not the
    application's own), ``detail`` its sentence, ``retry_after`` the seconds to wait (None if the server gave none).
    """

    def __init__(self, status: int, code: str = "", detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(detail or code or f"HTTP {status}")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


class SignedOut(Rejected):
    """The token or session has ended."""


class Forbidden(Rejected):
    """Not allowed."""


class NotFound(Rejected):
    """No such user or resource."""


class Invalid(Rejected):
    """The request has an unacceptable value."""


class KeyReused(Invalid):
    """The Idempotency-Key was used for another request."""


class TooMany(Rejected):
    """Over a limit."""


class Unavailable(Rejected):
    """A temporary failure. A write may have been carried out: repeat it with the same key."""


KINDS: dict[int, type[Rejected]] = {
    400: Invalid,
    401: SignedOut,
    403: Forbidden,
    404: NotFound,
    409: Invalid,
    413: Invalid,
    422: Invalid,
    429: TooMany,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
APPLICATION = {401, 403}  # a proxy sends these as well; they are the application's only with a code


def rejected(status: int, code: str = "", detail: str = "", retry_after: float | None = None) -> Rejected:
    """The error for a response or for one result of a batch.

    >>> rejected(404, "not_found", "There is no user called john.")
    NotFound('There is no user called john.')
    """
    kind = KeyReused if code == "idempotency_key_reused" else KINDS.get(status, Rejected)
    if status in APPLICATION and not code:
        kind = Rejected
    return kind(status, code, detail, retry_after)

"""The errors that a caller can cause or must handle: one tree, each class with a stable wire code.

    Refused
    ├── BadRequest        the request is malformed
    │   ├── HostUnknown   the Host header does not name this server
    │   ├── InvalidText   a text that cannot be stored on every database
    │   └── Invalid       a form field has an unacceptable value
    ├── SignedOut         no session, or one that has ended
    │   └── TokenEnded    an access token that is not valid, or no longer
    │       ├── JwtRefused      a signed token (JWT) that is not valid
    │       ├── SubjectInvalid  a signed token for a name that no account can have
    │       ├── SubjectTaken    a signed token for the name of an account of this site's own
    │       └── SubjectUnknown      a signed token of a user who is unknown to this process
    ├── Forbidden         not allowed, or no longer
    │   ├── OriginMissing   no Origin header where one is required
    │   ├── OriginForeign   the request comes from another site
    │   ├── TokenMissing    no CSRF token, or no cookie to check it with
    │   ├── TokenWrong      a CSRF token of another browser or from before the sign-in
    │   ├── OtherAccount    the form of an account other than the one signed in
    │   └── ScopeMissing    an access token without the scope that is needed
    ├── NotFound          no such page or user
    ├── MethodNotAllowed  another method than those of the address
    ├── TooLarge          a body over its limit
    ├── UnsupportedMediaType  a body that is not JSON
    ├── KeyReused         an Idempotency-Key that was used for another request
    ├── TooMany           over a limit; retry later
    └── Unavailable       a temporary failure; retry
        └── Draining      this process is shutting down
    Misconfigured         a setting, a database or a port that the operator must correct

See also: ``web/sentences.py`` (texts by reason) and ``web/problems.py`` (HTTP statuses and close codes).
"""

from collections.abc import Iterable
from math import ceil


class Refused(Exception):
    """A request that is not carried out.

    ``code`` is the stable wire code, ``reason`` a finer key into ``web.sentences`` (default: the code), ``values``
    the sentence's ``%(name)s`` parameters. ``retry_after`` is in whole seconds, None if a retry would not help.
    """

    code = "refused"
    retry_after: int | None = None

    def __init__(self, reason: str | None = None, **values: str | int) -> None:
        self.reason = reason or self.code
        self.values = values
        super().__init__(" ".join([self.reason, *(f"{name}={value!r}" for name, value in values.items())]))


class BadRequest(Refused):
    code = "bad_request"


class HostUnknown(BadRequest):
    code = "host_unknown"


class InvalidText(BadRequest):
    """A text with a NUL character or a lone surrogate: PostgreSQL stores neither, SQLite not the latter."""

    code = "invalid_text"


class Invalid(BadRequest):
    """A form field has an unacceptable value; ``field`` is its name."""

    code = "invalid"

    def __init__(self, field: str, reason: str, **values: str | int) -> None:
        super().__init__(reason, **values)
        self.field = field


class SignedOut(Refused):
    code = "signed_out"


class TokenEnded(SignedOut):
    def __init__(self, reason: str = "token_ended") -> None:
        super().__init__(reason)


class JwtRefused(TokenEnded):
    """A signed token is not valid; ``why`` is for the program that made it."""

    def __init__(self, why: str) -> None:
        super().__init__("jwt_refused")
        self.values = {"why": why}


class SubjectInvalid(TokenEnded):
    code = "subject_invalid"

    def __init__(self, reason: str = "subject_invalid", **values: str | int) -> None:
        super().__init__(reason)
        self.values = values


class SubjectTaken(TokenEnded):
    code = "subject_taken"

    def __init__(self, name: str) -> None:
        super().__init__("subject_taken")
        self.values = {"name": name}


class SubjectUnknown(TokenEnded):
    """Nothing is wrong: the account of ``subject`` must be looked up, or created, before the request is served."""

    def __init__(self, subject: str) -> None:
        super().__init__()
        self.subject = subject


class Forbidden(Refused):
    code = "forbidden"


class OriginMissing(Forbidden):
    code = "origin_missing"


class OriginForeign(Forbidden):
    code = "origin_foreign"


class TokenMissing(Forbidden):
    code = "csrf_missing"


class TokenWrong(Forbidden):
    code = "csrf_wrong"


class OtherAccount(Forbidden):
    """A form of another account than the one signed in, whose name is the value ``name``."""

    code = "other_account"


class ScopeMissing(Forbidden):
    def __init__(self, scope: str) -> None:
        super().__init__("scope_missing", scope=scope)


class NotFound(Refused):
    code = "not_found"


class MethodNotAllowed(Refused):
    """``allowed`` are the methods of the address."""

    code = "method_not_allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__()
        self.allowed = sorted(allowed)


class TooLarge(Refused):
    code = "too_large"


class UnsupportedMediaType(Refused):
    code = "unsupported_media_type"


class KeyReused(Refused):
    code = "idempotency_key_reused"


class TooMany(Refused):
    """Over a limit."""

    code = "too_many"

    def __init__(self, retry_after: int, reason: str | None = None, **values: str | int) -> None:
        super().__init__(reason, **values)
        self.retry_after = retry_after


class Unavailable(Refused):
    code = "unavailable"
    retry_after = 2


class Draining(Unavailable):
    """This process is shutting down; ``back_in`` is the delay before a retry, in seconds."""

    code = "draining"

    def __init__(self, back_in: float = 0.0) -> None:
        super().__init__()
        self.back_in = back_in
        self.retry_after = max(1, ceil(back_in))


class Misconfigured(Exception):
    """The operator must correct something; the message says what, and how."""

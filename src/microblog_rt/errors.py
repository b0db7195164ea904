"""What can be refused: one small tree, each with a stable code and a sentence for a person.

Not here: HTTP statuses and close codes (``web/problems.py`` has the one table), and the words of a
page in another language (``web/languages.py``; the sentences below are its message ids).

    Refused
    ├── BadRequest        the request itself is wrong
    │   └── Invalid       one field of a form is wrong
    ├── SignedOut         no session, or one that has ended
    ├── Forbidden         somebody else's page sent this
    ├── NotFound          there is no such thing
    ├── KeyReused         an idempotency key that stands for something else
    ├── TooMany           over a limit; later it will do
    └── Unavailable       not now; worth trying again
        └── Draining      this process is going away
    Misconfigured         a setting, a database or a port that the operator must see to
"""

from math import ceil


def N_(sentence: str) -> str:
    """Mark a sentence for translation where it is written; it is translated where it is shown."""
    return sentence


class Refused(Exception):
    """Something asked for is not done; ``code`` is for programs, ``sentence`` for a person.

    ``values`` fill the sentence's ``%(name)s`` places, so that it can be translated first. ``retry_after``: when
    it may do again, in whole seconds; None where trying again would not help.
    """

    code = "refused"
    sentence = N_("This is not possible.")
    retry_after: int | None = None

    def __init__(self, sentence: str | None = None, **values: str | int) -> None:
        self.sentence = sentence or type(self).sentence
        self.values = values
        super().__init__(self.sentence % values if values else self.sentence)


class BadRequest(Refused):
    code = "bad_request"
    sentence = N_("The request cannot be understood.")


class Invalid(BadRequest):
    """A form's field holds something that is not accepted; ``field`` names it."""

    code = "invalid"

    def __init__(self, field: str, sentence: str, **values: str | int) -> None:
        super().__init__(sentence, **values)
        self.field = field


class SignedOut(Refused):
    code = "signed_out"
    sentence = N_("Please sign in.")


class Forbidden(Refused):
    code = "forbidden"
    sentence = N_("This page did not come from here, or has grown old. Load it again, then send it again.")


class NotFound(Refused):
    code = "not_found"
    sentence = N_("There is nothing here.")


class KeyReused(Refused):
    code = "idempotency_key_reused"
    sentence = N_("This Idempotency-Key stands for another message, sent before. Each message wants one of its own.")


class TooMany(Refused):
    """Over a limit."""

    code = "too_many"
    sentence = N_("That was too often. Please wait a little, then try again.")

    def __init__(self, retry_after: int, sentence: str | None = None, **values: str | int) -> None:
        super().__init__(sentence, **values)
        self.retry_after = retry_after


class Unavailable(Refused):
    code = "unavailable"
    sentence = N_("This does not work right now. Please try again in a moment.")
    retry_after = 2


class Draining(Unavailable):
    """This process is about to end; ``back_in``: when to try again, in seconds."""

    code = "draining"

    def __init__(self, back_in: float = 0.0) -> None:
        super().__init__()
        self.back_in = back_in
        self.retry_after = max(1, ceil(back_in))


class Misconfigured(Exception):
    """The operator must change something; the message says what, and how."""

"""The body and the query of a request to the API, strictly read: what is not understood is refused."""

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, NoReturn
from urllib.parse import parse_qsl

from microblog_rt import protocol
from microblog_rt.errors import BadRequest, Invalid, InvalidText, UnsupportedMediaType
from microblog_rt.storage.idempotency import Write
from microblog_rt.text import is_storable

JSON_TYPE = re.compile(r'application/json\s*(;\s*charset\s*=\s*"?utf-8"?\s*)?', re.IGNORECASE)
LARGEST = 2**53 - 1  # JavaScript and many other clients read larger whole numbers wrongly
DEEPEST = 32
PROGRAM_KEY = re.compile("[ -~]{1,255}")

# The kinds of fields, as the sentences call them.
TEXT, SECONDS, TRUE, ITEMS, ANYTHING = (
    "a string",
    "a number of seconds, 0 or more",
    "true",
    "an array",
    "any JSON value",
)


class ApiRequest(NamedTuple):
    """A request to the API. Names of header fields are in lower case; ``address`` is the client's, "" if unknown."""

    method: str
    path: str
    query_string: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    address: str

    def values(self, name: bytes) -> list[str]:
        """The values of a header field."""
        return [value.decode("latin-1") for each, value in self.headers if each == name]


def json_object(request: ApiRequest) -> dict[str, Any]:
    """The JSON object in the body. Raises UnsupportedMediaType, BadRequest, InvalidText."""
    types = request.values(b"content-type")
    if len(types) != 1 or not JSON_TYPE.fullmatch(types[0].strip()):
        raise UnsupportedMediaType
    try:
        found = json.loads(
            request.body.decode(),
            object_pairs_hook=_object,
            parse_int=_whole_number,
            parse_float=_number,
            parse_constant=_constant,
        )
        if not isinstance(found, dict):
            raise ValueError("it is another kind of value.")
        _check(found)
    except UnicodeDecodeError:
        raise BadRequest("body_not_json", error="it is not UTF-8.") from None
    except RecursionError:
        raise BadRequest("body_not_json", error=f"it is nested deeper than {DEEPEST} levels.") from None
    except json.JSONDecodeError as error:
        raise BadRequest("body_not_json", error=f"{error.msg} at character {error.pos}.") from None
    except ValueError as error:
        raise BadRequest("body_not_json", error=str(error)) from None
    return found


def fields(found: Any, required: Mapping[str, str], optional: Mapping[str, str] = {}) -> dict[str, Any]:
    """``found`` with all of its required fields, and no unknown ones, each of its kind. Raises Invalid."""
    if not isinstance(found, dict):
        raise Invalid("item", "field_kind", name="Each item", kind="an object")
    kinds = {**required, **optional}
    for name, value in found.items():
        if name not in kinds:
            raise Invalid(name, "field_unknown", name=json.dumps(name[:100]))
        if not _is_a(kinds[name], value):
            raise Invalid(name, "field_kind", name=name, kind=kinds[name])
    for name in required:
        if name not in found:
            raise Invalid(name, "field_missing", name=name)
    return found


def empty(request: ApiRequest) -> None:
    """Raise BadRequest if there is a body."""
    if request.body:
        raise BadRequest("body_not_empty")


def microseconds(seconds: float) -> int:
    """A number of seconds as a cursor."""
    return round(min(seconds * protocol.MICROSECONDS, protocol.FURTHEST))


def page(request: ApiRequest, most: int, usual: int, keys: Collection[str] = ("before", "after")) -> dict[str, int]:
    """The query's ``before`` or ``after`` (those of ``keys``), as cursors, and ``limit``. Raises BadRequest."""
    found: dict[str, int] = {"limit": usual}
    try:
        sent = parse_qsl(request.query_string.decode("ascii"), keep_blank_values=True)
    except ValueError:
        raise BadRequest from None
    names = [name for name, _ in sent]
    for name, value in sent:
        if name not in keys and name != "limit":
            continue
        try:
            if names.count(name) > 1:
                raise ValueError
            if name == "limit" and not (re.fullmatch("[0-9]{1,3}", value, re.ASCII) and 1 <= int(value) <= most):
                raise ValueError
            found[name] = int(value) if name == "limit" else protocol.parse_cursor(value)
        except ValueError:
            kind = f"whole number from 1 to {most}" if name == "limit" else "number of seconds, 0 or more,"
            raise BadRequest("query_kind", field=name, kind=kind) from None
    if "before" in found and "after" in found:
        raise BadRequest("before_and_after")
    return found


def program_key(sent: list[str]) -> str:
    """The one ``Idempotency-Key`` in ``sent``, "" without one. Raises BadRequest."""
    if len(sent) > 1 or not all(PROGRAM_KEY.fullmatch(each) for each in sent):
        raise BadRequest("idempotency_key_format")
    return sent[0] if sent else ""


def write(request: ApiRequest, user_id: int, content: Any) -> Write | None:
    """The write of a request with ``content``, if it has an ``Idempotency-Key``."""
    key = program_key(request.values(b"idempotency-key"))
    if not key:
        return None
    said = f"{request.method}\0{request.path}\0{json.dumps(content, sort_keys=True)}"
    return Write(user_id, _hash(key), _hash(said))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_a(kind: str, value: Any) -> bool:
    if kind == SECONDS:
        return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    if kind == TRUE:
        return value is True
    return kind == ANYTHING or isinstance(value, str if kind == TEXT else list)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has two values of the same name.")
    return found


def _whole_number(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > LARGEST:
        raise ValueError(f"a whole number is not within ±{LARGEST}. Send it as a string.")
    return int(text)


def _number(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError("a number is too large. Send it as a string.")
    return float(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON. Send null or a string.")


def _check(value: Any, depth: int = 0) -> None:
    """Raise InvalidText for a text that cannot be stored, RecursionError for a value that is nested too deeply."""
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(value, str) and not is_storable(value):
        raise InvalidText
    for each in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check(each, depth + 1)

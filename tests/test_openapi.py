"""``docs/openapi.yaml`` against a real server, with schemathesis: every response is as documented.

``python -m pytest -s --proof tests/test_openapi.py`` is the full form: 500 cases of each operation for each kind of
credentials on each database, beside the edge cases that schemathesis derives from the document; prints the statuses.
``OPENAPI_CASES`` is another number of cases.
See also: ``web/test_documented.py``, which produces each documented response once.
"""

import copy
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, cast

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, CheckFunction
from schemathesis.core.transport import Response

from microblog_rt import files
from microblog_rt.app import create_app
from microblog_rt.models import SCOPES
from microblog_rt.settings import Settings
from microblog_rt.web.admission import PATH
from microblog_rt.web.api import DOCUMENT, ROUTES
from microblog_rt.web.api import PREFIX as API_PREFIX
from tests.command_line import Folder
from tests.conftest import KEY
from tests.http_client import cookie_named
from tests.server_process import Person, Server

SHORT = 5
CASES = int(os.environ.get("OPENAPI_CASES", SHORT))
LONGEST_WAIT = 0.01  # seconds: a poll held as long as requested would hold up the test

LIMITS = ("SIGN_IN_LIMIT", "SIGN_IN_GLOBAL_LIMIT", "SEND_LIMIT", "TABS_PER_USER", "TABS_PER_ADDRESS")
ENVIRON = {f"MICROBLOG_{name}": "" for name in LIMITS} | {"MICROBLOG_SECRET_KEY": KEY}

METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE"}
ANYTHING = [
    {"name": "anything", "in": "query", "schema": {"type": "string", "pattern": "^[^\0]*$"}},
    {"name": "X-Anything", "in": "header", "schema": {"type": "string"}},
]

COOKIES = {"session": "session", "form": "browser"}  # the kinds, by the security schemes of the document

Case = schemathesis.Case[Any]

documented = schemathesis.openapi.from_path(str(files.CHECKOUT / "docs" / "openapi.yaml"))


def with_anything(document: dict[str, Any]) -> dict[str, Any]:
    """The document with undocumented headers added to every operation, which must change nothing."""
    document = copy.deepcopy(document)
    for path in document["paths"].values():
        for method in METHODS & {each.upper() for each in path}:
            operation = path[method.lower()]
            operation["parameters"] = operation.get("parameters", []) + ANYTHING
    return document


schema = schemathesis.openapi.from_dict(with_anything(documented.raw_schema))


class Credentials:
    """A kind of credentials: what is added to a request in place of what was generated."""

    def __init__(self, server: Server, kind: str) -> None:
        self.kind = kind
        self.answers: dict[str, Counter[int]] = {}
        self.server = self._server = server
        self._calls = requests.Session()
        self._calls.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._person = Person(server, "alice")
        self._token = self._person.token()
        self._cookies = dict(self._person.client.cookies)
        # Generated cookies have the document's names, which are not those of this instance.
        schemes = documented.raw_schema["components"]["securitySchemes"]
        self._names = {schemes[use]["name"]: cookie_named(kind, self._cookies) for use, kind in COOKIES.items()}
        words = [word for scope in SCOPES for word in ("--scope", scope)]
        add = Folder(server.folder).run("token", "add", "alice", *words, **server.environ)
        self._access = add.stdout.strip()
        assert self._access.startswith("mbrt_"), add
        if kind == "a stranger":
            del self._cookies[self._person.session_cookie]

    def call(self, case: Case) -> Response:
        response = self._call(case, session=self._calls, params=held_shortly(case))
        self.answers.setdefault(case.operation.label, Counter())[response.status_code] += 1
        signed_in = self._person.session_cookie in self._cookies
        if signed_in and case.path.startswith("/auth/") and response.status_code == 303:
            self._sign_in_again()
        return response

    def _call(self, case: Case, **more: Any) -> Response:
        case = case.derive()
        case.cookies = {self._names.get(name, name): value for name, value in case.cookies.items()}
        if self.kind == "a token":
            for name in {"name"} & set(case.path_parameters):
                case.path_parameters[name] = "bob"
            return case.call(self._server.url, headers={"Authorization": f"Bearer {self._access}"}, **more)
        if self.kind == "a passer-by":
            return case.call(self._server.url, **more)
        if self.kind == "a browser":
            for name in {"recipient", "username"} & set(case.path_parameters):
                case.path_parameters[name] = "bob"
        return case.call(self._server.url, headers=self._headers(), cookies=self._cookies, **more)

    def _headers(self) -> dict[str, str]:
        accept = "text/html,*/*;q=0.8" if self.kind == "a browser" else "application/json"
        own = {"Origin": self._server.url, "Sec-Fetch-Site": "same-origin"}
        return {**own, "X-CSRFToken": self._token, "Accept": accept}

    def _sign_in_again(self) -> None:
        self._person.post("/auth/login", username="alice", password=self._server.password)
        self._cookies[self._person.session_cookie] = self._person.client.cookies[self._person.session_cookie]

    def leave(self) -> None:
        self._person.close()
        self._calls.close()


def held_shortly(case: Case) -> dict[str, float] | None:
    """The ``wait`` to use in place of a long one."""
    with suppress(TypeError, ValueError):
        if float(case.query.get("wait", 0)) > LONGEST_WAIT:
            return {"wait": LONGEST_WAIT}
    return None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on SQLite."""
    with unlimited(tmp_path_factory.mktemp("server"), {}) as server:
        yield server


@contextmanager
def unlimited(folder: Path, environ: dict[str, str]) -> Iterator[Server]:
    """A server without limits; its log must be empty at the end (I7)."""
    with Server(folder, environ=ENVIRON | environ) as server:
        bob = server.person("bob")
        bob.send("alice", "something to be told")
        bob.close()
        yield server
    assert server.logged() == ""


@pytest.fixture(scope="module")
def alice(shared: Server) -> Iterator[Person]:
    alice = shared.person("alice")
    yield alice
    alice.close()


@pytest.fixture(scope="module", params=["a passer-by", "a stranger", "a program", "a browser", "a token"])
def visitor(shared: Server, request: pytest.FixtureRequest) -> Iterator[Credentials]:
    visitor = Credentials(shared, request.param)
    yield visitor
    visitor.leave()
    for label, answers in visitor.answers.items():
        print(f"\n{answers.total():5} {label} by {visitor.kind}: {dict(sorted(answers.items()))}", end="")
        assert answers.total() >= CASES


@schema.parametrize()
@settings(
    max_examples=CASES,
    derandomize=CASES == SHORT,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_response_is_as_documented(case: Case, visitor: Credentials) -> None:
    unfit = [cast(CheckFunction, CHECKS.get_one(name)) for name in not_promised(case, visitor)]
    case.validate_response(visitor.call(case), excluded_checks=unfit)


@pytest.fixture(scope="module")
def program_on_postgresql(
    tmp_path_factory: pytest.TempPathFactory, postgresql_environ: dict[str, str]
) -> Iterator[Credentials]:
    with unlimited(tmp_path_factory.mktemp("server"), postgresql_environ) as server:
        program = Credentials(server, "a program")
        yield program
        program.leave()


@schema.parametrize()
@settings(
    max_examples=CASES,
    derandomize=CASES == SHORT,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_responses_on_postgresql(case: Case, program_on_postgresql: Credentials) -> None:
    unfit = [cast(CheckFunction, CHECKS.get_one(name)) for name in not_promised(case, program_on_postgresql)]
    case.validate_response(program_on_postgresql.call(case), excluded_checks=unfit)


@pytest.fixture(scope="module")
def token_on_postgresql(program_on_postgresql: Credentials) -> Iterator[Credentials]:
    token = Credentials(program_on_postgresql.server, "a token")
    yield token
    token.leave()


@schema.include(path_regex="^/(api|openapi)").parametrize()
@settings(
    max_examples=CASES,
    derandomize=CASES == SHORT,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_api_responses_to_a_token_on_postgresql(case: Case, token_on_postgresql: Credentials) -> None:
    unfit = [cast(CheckFunction, CHECKS.get_one(name)) for name in not_promised(case, token_on_postgresql)]
    case.validate_response(token_on_postgresql.call(case), excluded_checks=unfit)


def not_promised(case: Case, visitor: Credentials) -> Iterator[str]:
    """Schemathesis's checks that do not apply to this document."""
    # The added credentials may have repaired what was generated to be invalid.
    yield "negative_data_rejection"
    if case.path.startswith("/api/"):
        # What the schema cannot say: a text of white space, users that do not exist, data over 4 KiB.
        yield "positive_data_acceptance"
        yield "ignored_auth"  # the added credential replaces the generated one
        # Of Authorization: a generated Origin is foreign and so 403, or there is a session in its place.
        yield "missing_required_header"
    if case.path in ("/messages/read", "/messages/unread"):
        # A GET shows the conversation with a user of that name.
        yield "unsupported_method"
        yield "allow_header_conformance"
        yield "positive_data_acceptance"  # a field may contain a NUL character
    if visitor.kind in ("a program", "a browser", "a token"):
        yield "ignored_auth"  # it does not recognize this instance's name of the session's cookie
    if case.path in ("/auth/login", "/send_message/{recipient}", "/", "/post/{number}"):
        yield "positive_data_acceptance"  # no schema says whether a password is right, or a text more than white space
    if visitor.kind == "a stranger":
        yield "missing_required_header"  # without a session the sign-in page is shown, with or without a token


@pytest.mark.parametrize("since", ["nan", "inf", "-inf", "-1", "1e309", "", " ", "x", "0x1", "1_0", "١", "1&since=1"])
def test_invalid_cursor_is_400(alice: Person, since: str) -> None:
    answer = alice.client.get(f"{PATH}?since={since}")
    assert answer.status_code == 400
    assert "since" in answer.json()["detail"]
    documented[PATH]["GET"].Case().validate_response(answer)


@pytest.mark.parametrize("wait", ["0.30000000000000004", "1e-07", "5e-324", "-1e309", "-3", "00.1"])
def test_wait_accepts_any_number_of_seconds(alice: Person, wait: str) -> None:
    """Programs format floats differently."""
    answer = alice.client.get(PATH, params={"wait": wait})
    assert answer.status_code == 200


PARAMETER = re.compile(r"<(?:[^:>]+:)?(\w+)>")  # of a route, with or without its converter

# Routes for people; every other route must be documented for programs.
PAGES = {
    "/account",
    "/account/delete",
    "/account/email/<token>",
    "/account/export",
    "/auth/change_password",
    "/auth/logout_everywhere",
    "/auth/register",
    "/auth/reset_password/<token>",
    "/auth/reset_password_request",
    "/auth/sessions",
    "/auth/sessions/end",
    "/auth/tokens",
    "/auth/tokens/revoke",
    "/docs",
    "/edit_profile",
    "/explore",
    "/index",
    "/mentions",
    "/messages",
    "/messages/<username>",
    "/people",
    "/preferences",
    "/static/<version>/<path:filename>",
    "/user/<username>",
}


def test_document_has_every_machine_route(settings: Settings) -> None:
    routes: dict[str, set[str]] = {}
    for rule in create_app(settings).url_map.iter_rules():
        routes.setdefault(str(rule), set()).update(METHODS & (rule.methods or set()))
    assert set(routes) >= PAGES
    asked = {PARAMETER.sub(r"{\1}", path): methods for path, methods in routes.items() if path not in PAGES}
    documented_methods = {path: {each.upper() for each in documented[path]} & METHODS for path in documented}
    assert documented_methods.pop(PATH) == {"GET", "HEAD"}
    api = {DOCUMENT: {"GET"}}
    for route in ROUTES:
        api.setdefault(API_PREFIX + route.path, set()).add(route.method)
    assert {path: documented_methods.pop(path) for path in api} == api
    assert documented_methods == {path: methods - {"HEAD"} for path, methods in asked.items()}

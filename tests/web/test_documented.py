"""Every response that ``docs/openapi.yaml`` documents, requested once per operation and validated."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import httpx
import pytest
import schemathesis
from quart import Quart
from schemathesis.checks import CHECKS, CheckFunction, load_all_checks

from microblog_rt import files
from microblog_rt.errors import TooMany, Unavailable
from microblog_rt.services import Services
from microblog_rt.storage.health import Health
from microblog_rt.web import problems
from tests.conftest import PASSWORD
from tests.web.conftest import ORIGIN, Join

documented = schemathesis.openapi.from_path(str(files.CHECKOUT / "docs" / "openapi.yaml"))
OPERATIONS = {
    f"{method.upper()} {path}": documented[path][method.upper()]
    for path, methods in documented.raw_schema["paths"].items()
    for method in methods
    if method in ("get", "head", "post") and not path.startswith(("/api/", "/openapi"))  # see test_api_document.py
}

load_all_checks()
CONFORMANCE = [
    cast(CheckFunction, CHECKS.get_one(f"{each}_conformance"))
    for each in ("status_code", "content_type", "response_headers", "response_schema")
]


class Request(NamedTuple):
    """A request and its expected status; by default from a signed-in program."""

    status: int
    signed_in: bool = True
    accept: str = "application/json"
    headers: dict[str, str] = {}
    query: str = ""
    form: dict[str, str] = {}
    recipient: str = "susan"
    number: int = 1
    error: type[Exception] | None = None


class Broken(Exception):
    """An unexpected error."""


class Down(Unavailable):
    """The database is down."""


class Often(TooMany):
    def __init__(self) -> None:
        super().__init__(7)


def and_pages(asks: list[Request]) -> list[Request]:
    """The same requests, and again from a browser."""
    return asks + [ask._replace(accept="text/html") for ask in asks]


ANYWHERE = and_pages(
    [Request(400, headers={"Host": "evil.example"}), Request(500, error=Broken), Request(503, error=Down)]
)
FEED = [
    *ANYWHERE,
    Request(200),
    Request(200, query="?since=0&wait=0.01&name=unread_message_count"),
    Request(400, query="?since=nan"),
    Request(401, signed_in=False),
    Request(401, query="?user=0"),
    Request(403, headers={"Origin": "https://evil.example"}),
    Request(429, error=Often),
]
CHANGES = ANYWHERE + and_pages(
    [
        Request(403, headers={"Origin": "https://evil.example"}),
        Request(403, headers={"X-CSRFToken": "old"}),
        Request(413, headers={"X-CSRFToken": ""}, form={"message": "x" * 70_000}),
    ]
)
MARKS = [
    *CHANGES,
    Request(200),
    Request(200, form={"up_to": "1.5"}),
    Request(303, accept="text/html"),
    Request(303, accept="text/html", signed_in=False),
    Request(400, form={"up_to": "x"}),
    Request(401, signed_in=False),
]
ASKS = {
    "GET /notifications": FEED,
    "HEAD /notifications": FEED,
    "POST /messages/read": [
        *MARKS,
        Request(200, form={"person": "susan"}),
        *and_pages([Request(404, form={"person": "nobody"})]),
    ],
    "POST /mentions/read": MARKS,
    "POST /messages/unread": [
        *CHANGES,
        Request(200, form={"person": "susan", "from": "1.5"}),
        Request(303, accept="text/html", form={"person": "susan", "from": "1.5"}),
        Request(303, accept="text/html", signed_in=False),
        *and_pages([Request(400, form={"person": "susan", "from": "x"}), Request(400, form={"from": "1.5"})]),
        Request(401, signed_in=False, form={"person": "susan", "from": "1.5"}),
        *and_pages([Request(404, form={"person": "nobody", "from": "1.5"})]),
    ],
    "GET /send_message/{recipient}": [
        *ANYWHERE,
        Request(200),
        Request(303, accept="text/html", signed_in=False),
        Request(401, signed_in=False),
        *and_pages([Request(404, recipient="nobody")]),
    ],
    "POST /send_message/{recipient}": [
        *CHANGES,
        Request(303, form={"message": "hello"}),
        *and_pages([Request(401, signed_in=False), Request(422, form={"message": " "})]),
        Request(404, recipient="nobody"),
        Request(303, form={"message": "hello"}, headers={"Idempotency-Key": "k"}),
        *and_pages([Request(422, form={"message": "goodbye"}, headers={"Idempotency-Key": "k"})]),
        *and_pages([Request(400, form={"message": "hello"}, headers={"Idempotency-Key": ""})]),
        *and_pages([Request(429, error=Often)]),
    ],
    "GET /": [*ANYWHERE, Request(200), Request(200, signed_in=False), Request(400, query="?before=x")],
    "POST /": [
        *CHANGES,
        Request(303, form={"post": "hello"}),
        *and_pages([Request(401, signed_in=False), Request(422, form={"post": " "}), Request(429, error=Often)]),
    ],
    "GET /post/{number}": [
        *ANYWHERE,
        Request(200),
        Request(303, accept="text/html", signed_in=False),
        Request(401, signed_in=False),
        *and_pages([Request(404, number=99)]),
    ],
    "POST /post/{number}": [
        *CHANGES,
        Request(303, form={"post": "hello"}),
        *and_pages([Request(401, signed_in=False), Request(422, form={"post": " "}), Request(429, error=Often)]),
        *and_pages([Request(404, form={"post": "hello"}, number=99)]),
    ],
    "POST /posts/seen": [
        *CHANGES,
        Request(200, form={"up_to": "1"}),
        Request(303, form={"up_to": "1"}, accept="text/html"),
        Request(303, accept="text/html", signed_in=False),
        *and_pages([Request(400, form={"up_to": "x"})]),
        Request(401, signed_in=False),
    ],
    "POST /follow/{username}": [
        *CHANGES,
        Request(303, recipient="john"),
        Request(303, accept="text/html", signed_in=False),
        Request(401, signed_in=False),
        *and_pages([Request(404, recipient="nobody"), Request(422)]),
    ],
    "POST /unfollow/{username}": [
        *CHANGES,
        Request(303, recipient="john"),
        Request(303, accept="text/html", signed_in=False),
        Request(401, signed_in=False),
        *and_pages([Request(404, recipient="nobody")]),
    ],
    "GET /auth/login": [*ANYWHERE, Request(200, signed_in=False), Request(302), Request(302, query="?next=/messages")],
    "POST /auth/login": [
        *CHANGES,
        Request(303, form={"username": "susan", "password": PASSWORD}),
        *and_pages([Request(422, form={"username": "susan", "password": "wrong"})]),
        *and_pages([Request(429, error=Often)]),
    ],
    "POST /auth/logout": [*CHANGES, Request(303), Request(303, signed_in=False)],
    "GET /healthz": [Request(200, headers={"Host": "any.example"})],
    "GET /metrics": [Request(200), *and_pages([Request(404, headers={"X-Forwarded-For": "192.0.2.1"})])],
    "GET /readyz": [Request(200, headers={"Host": "any.example"}), Request(503, signed_in=False, error=Down)],
}


def parameters(ask: Request) -> dict[str, Any]:
    """Values of all parameters that paths have."""
    return {"recipient": ask.recipient, "username": ask.recipient, "number": ask.number}


class Program:
    """Sends requests in process, each with a new session, since some end theirs."""

    def __init__(self, app: Quart, services: Services, cookies: dict[str, str], token: str) -> None:
        self._app = app
        self._services = services
        self._cookies = cookies
        self._token = token
        self._transport = httpx.ASGITransport(app=cast(Any, app))

    async def answer(self, label: str, ask: Request) -> httpx.Response:
        method, path = label.format(**parameters(ask)).split(" ")
        cookies = self._cookies | (await self._session() if ask.signed_in else {})
        own = {"X-CSRFToken": self._token, "Accept": ask.accept, "Origin": ORIGIN}
        client = httpx.AsyncClient(transport=self._transport, base_url=ORIGIN, cookies=cookies)
        async with client, error(self._services, ask.error):
            return await client.request(method, path + ask.query, data=ask.form or None, headers=own | ask.headers)

    async def _session(self) -> dict[str, str]:
        user = await self._services.accounts.find("susan")
        assert user is not None
        token = await self._services.sessions.start_session(user, remembered=True)
        authentication = self._app.extensions["authentication"]
        return {authentication.cookie_name: authentication.dump_token(f"{user.id}.{token}", self._app)}


async def down() -> Health:
    return Health("disconnected")


@asynccontextmanager
async def error(services: Services, kind: type[Exception] | None) -> AsyncIterator[None]:
    """Make every database access in the block raise ``kind``."""
    with pytest.MonkeyPatch.context() as patch:
        if kind is not None:

            def fails(*_: object, **__: object) -> None:
                raise kind

            for each in ("write", "begin_write", "reading", "feed_read", "row"):
                patch.setattr(services.storage, each, fails)
            patch.setattr(services.storage, "health", down)
        yield


@pytest.fixture
async def program(app: Quart, services: Services, join: Join) -> Program:
    browser = await join("susan")
    await services.accounts.register("john", PASSWORD)
    await services.posts.post(1, "hello")
    await services.messages.send_message(1, 1, "hello")
    token = await browser.token()
    (form,) = [each for each in browser.client.cookie_jar or [] if each.name.startswith("microblog_browser")]
    return Program(app, services, {form.name: str(form.value)}, token)


@pytest.mark.parametrize("label", OPERATIONS)
async def test_each_documented_answer_is_given(label: str, program: Program) -> None:
    received = set()
    for ask in ASKS[label]:
        answer = await program.answer(label, ask)
        assert answer.status_code == ask.status, (ask, answer.text)
        case = OPERATIONS[label].Case(path_parameters=parameters(ask))
        case.validate_response(answer, checks=CONFORMANCE)
        received.add(str(ask.status))
    assert received == set(OPERATIONS[label].responses.status_codes)


def test_problem_codes_match_the_documentation() -> None:
    codes = documented.raw_schema["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert set(codes) == set(problems.ANSWERS) | set(problems.CODES.values())
    assert codes == sorted(codes)


def test_documented_body_limit_matches(app: Quart) -> None:
    text = (files.CHECKOUT / "docs" / "openapi.yaml").read_text()
    assert re.findall(r"More than (\d+) KiB", text) == ["64"] * 11
    assert app.config["MAX_CONTENT_LENGTH"] == 64 * 1024

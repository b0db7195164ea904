"""The JSON API: each operation, what it refuses, and writes that are repeated."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from quart import Quart

from microblog_rt.models import PUBLISH_NOTIFICATIONS, READ_MESSAGES, READ_NOTIFICATIONS, SCOPES, SEND_MESSAGES
from microblog_rt.services import Services
from microblog_rt.settings import Limit, Settings
from tests.conftest import PASSWORD
from tests.web.conftest import ORIGIN, Browser, Join

API = "/api/v1/"
ALLOWED = "https://app.example"


class Program:
    """Calls the API with a token."""

    def __init__(self, app: Quart, token: str) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ORIGIN)  # type: ignore[arg-type]
        self.headers = {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, content: Any = None, key: str = "", **headers: str) -> httpx.Response:
        """``content`` is sent as JSON, bytes as they are."""
        sent = self.headers | headers | ({"Idempotency-Key": key} if key else {})
        if content is not None:
            sent = {"Content-Type": "application/json"} | sent
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self._client.request(
            method, path if path.startswith("/") else API + path, content=content, headers=sent
        )

    async def ok(self, method: str, path: str, content: Any = None, key: str = "") -> Any:
        answer = await self.call(method, path, content, key)
        assert answer.is_success, answer.text
        return answer.json()

    async def code(self, method: str, path: str, content: Any = None, **more: str) -> tuple[int, str]:
        """The status and the code of a refusal."""
        answer = await self.call(method, path, content, **more)
        assert answer.headers["Content-Type"] == "application/problem+json", answer.text
        assert answer.json()["detail"]
        return answer.status_code, answer.json()["code"]


Joined = Callable[..., Awaitable[Program]]


@pytest.fixture
def changes() -> dict[str, Any]:
    """Settings that a test changes."""
    return {}


@pytest.fixture
def settings(settings: Settings, changes: dict[str, Any]) -> Settings:
    return replace(settings, **changes)


@pytest.fixture
def program(app: Quart, services: Services) -> Joined:
    async def join(name: str = "susan", *scopes: str) -> Program:
        user = await services.accounts.find(name) or await services.accounts.register(name, PASSWORD)
        return Program(app, await services.tokens.add(user, "test", scopes or SCOPES))

    return join


async def state(program: Program) -> dict[str, Any]:
    """The caller's notifications, by name."""
    return {each["name"]: each["data"] for each in await program.ok("GET", "/notifications")}


async def listed_in_pages(program: Program, kind: str, size: int) -> list[list[str]]:
    """The ids on each page of ``sessions`` or ``tokens``."""
    pages, before = [], ""
    while True:
        page = await program.ok("GET", f"{kind}?limit={size}{before}")
        pages.append([each["id"] for each in page[kind]])
        if page["before"] is None:
            return pages
        before = f"&before={page['before']!r}"


@pytest.mark.parametrize("kind", ["sessions", "tokens"])
async def test_sessions_and_tokens_are_listed_in_pages(program: Joined, services: Services, kind: str) -> None:
    susan = await program("susan")
    user = await services.accounts.known("susan")
    for number in range(5):
        if kind == "sessions":
            await services.sessions.start_session(user, remembered=False)
        elif number < 4:  # there is one already
            await services.tokens.add(user, f"{number}", SCOPES)
    everything = await susan.ok("GET", kind)
    ids = [each["id"] for each in everything[kind]]
    created = [each["created"] for each in everything[kind]]
    assert (len(set(ids)), everything["before"]) == (5, None)
    assert created == sorted(created, reverse=True)
    assert await listed_in_pages(susan, kind, 2) == [ids[:2], ids[2:4], ids[4:]]
    assert await listed_in_pages(susan, kind, 5) == [ids]
    for query in ("limit=0", "limit=101", "before=x", "before=1&before=2"):
        assert await susan.code("GET", f"{kind}?{query}") == (400, "bad_request")


async def test_message_is_sent_listed_and_read(program: Joined) -> None:
    susan, john = await program("susan"), await program("john")
    sent = await susan.call("POST", "messages", {"recipient": "JOHN", "body": " hello "})
    assert sent.status_code == 201
    message = sent.json()
    assert message == {"author": "susan", "recipient": "john", "body": "hello", "timestamp": message["timestamp"]}
    page = await john.ok("GET", "messages")
    (found,) = page["messages"]
    assert (found["author"], found["body"], found["unread"]) == ("susan", "hello", True)
    assert found["timestamp"] == message["timestamp"]
    assert (page["before"], page["after"]) == (None, None)
    await john.ok("POST", "messages/read", {"from": 1e308})  # nothing is so new
    count = await john.ok("POST", "messages/read", {"from": found["timestamp"], "up_to": found["timestamp"]})
    assert (count["name"], count["data"]) == ("unread_message_count", 0)
    await susan.ok("POST", "messages", {"recipient": "john", "body": "again"})
    assert (await john.ok("POST", "messages/read", {"all": True}))["data"] == 0


async def test_messages_are_paged_by_key(program: Joined) -> None:
    susan, john = await program("susan"), await program("john")
    for number in range(5):
        await susan.ok("POST", "messages", {"recipient": "john", "body": str(number)})
    first = await john.ok("GET", "messages?limit=2")
    older = await john.ok("GET", f"messages?limit=2&before={first['before']!r}")
    oldest = await john.ok("GET", f"messages?limit=2&before={older['before']!r}")
    back = await john.ok("GET", f"messages?limit=2&after={oldest['after']!r}")
    pages = [[each["body"] for each in page["messages"]] for page in (first, older, oldest, back)]
    assert pages == [["4", "3"], ["2", "1"], ["0"], ["2", "1"]]
    assert (first["after"], oldest["before"]) == (None, None)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=1&limit=2", "before=x", "before=1&after=1"]
)
async def test_invalid_query_is_refused(program: Joined, query: str) -> None:
    assert await (await program()).code("GET", f"messages?{query}") == (400, "bad_request")


async def test_notification_is_published_and_deleted(program: Joined) -> None:
    susan, john = await program("susan"), await program("john")
    path = "users/John/notifications/build"
    published = await susan.ok("PUT", path, {"data": {"status": "passed"}})
    assert published["data"] == {"status": "passed"}
    assert await state(john) == {"build": {"status": "passed"}}
    deleted = await susan.ok("DELETE", path)
    assert (deleted["name"], deleted["data"]) == ("build", None)
    assert deleted["timestamp"] > published["timestamp"]
    assert await susan.ok("DELETE", path) == deleted
    (seen,) = await john.ok("GET", f"/notifications?since={published['timestamp']!r}")
    assert seen == deleted
    assert await susan.code("DELETE", "users/john/notifications/other") == (404, "not_found")
    assert await susan.code("PUT", "users/nothing/notifications/build", {"data": 1}) == (404, "not_found")


async def test_key_of_a_notification_may_have_a_slash(program: Joined) -> None:
    """In a path as in a batch; a name of a user may not."""
    susan = await program("susan")
    for key in ("a/b", "/", "a//", "../a", "%2F", "a\n"):
        await susan.ok("POST", "notifications", {"items": [{"user": "susan", "key": key, "data": 1}]})
        path = f"users/susan/notifications/{quote(key, safe='')}"
        assert (await susan.ok("PUT", path, {"data": 2}))["name"] == key
        assert (await state(susan))[key] == 2
        assert (await susan.ok("DELETE", path))["data"] is None
    assert await susan.code("PUT", f"users/susan%2Fx/notifications/{quote('a/b', safe='')}", {"data": 1}) == (
        404,
        "not_found",
    )


async def test_batch_has_a_result_for_each_item_in_order(program: Joined) -> None:
    susan, john = await program("susan"), await program("john")
    items: list[Any] = [
        {"user": "john", "key": "a", "data": 1},
        {"user": "missing", "key": "a", "data": 1},
        {"user": "susan", "key": "a", "data": 2},
        {"user": "john", "key": "unread_message_count", "data": 9},
        {"user": "JOHN", "key": "a", "data": 3},
        {"user": "john", "key": "b"},
        "no object",
        {"user": "john", "key": "b", "data": "x" * 5000},
        {"user": "john", "key": "b", "data": 4, "more": 1},
    ]
    results = (await susan.ok("POST", "notifications", {"items": items}))["results"]
    assert [each["status"] for each in results] == [200, 404, 200, 422, 200, 422, 422, 422, 422]
    assert [each.get("code") for each in results if each["status"] != 200] == ["not_found", *["invalid"] * 5]
    assert results[0]["timestamp"] < results[4]["timestamp"]
    assert (await state(john), await state(susan)) == ({"a": 3}, {"a": 2})
    most = [{"user": "john", "key": f"k{number}", "data": number} for number in range(500)]
    assert {each["status"] for each in (await susan.ok("POST", "notifications", {"items": most}))["results"]} == {200}
    assert len(await state(john)) == 501
    for wrong in ([], [*most, most[0]]):
        assert await susan.code("POST", "notifications", {"items": wrong}) == (422, "invalid")


WRITES: list[tuple[str, str, Any, Any]] = [
    ("POST", "messages", {"recipient": "john", "body": "hello"}, {"recipient": "john", "body": "bye"}),
    ("POST", "messages/read", {"all": True}, {"from": 1}),
    ("PUT", "users/john/notifications/a", {"data": 1}, {"data": 2}),
    (
        "POST",
        "notifications",
        {"items": [{"user": "john", "key": "a", "data": 1}]},
        {"items": [{"user": "john", "key": "a", "data": 2}]},
    ),
]


@pytest.mark.parametrize(("method", "path", "content", "other"), WRITES)
async def test_repeated_write_gets_the_first_result(
    program: Joined, method: str, path: str, content: Any, other: Any
) -> None:
    susan, john = await program("susan"), await program("john")
    at_once = await asyncio.gather(*(susan.call(method, path, content, "key") for _ in range(5)))
    assert len({(each.status_code, each.text) for each in at_once}) == 1
    assert at_once[0].is_success
    assert await susan.code(method, path, other, key="key") == (422, "idempotency_key_reused")
    if path != "messages/read":
        (only,) = await john.ok("GET", "/notifications")
        assert only["data"] == 1
        assert (await john.call(method, path, other, "key")).is_success  # a key belongs to its user
    assert (await susan.call(method, path, content, "key")).text == at_once[0].text


async def test_deletion_is_repeated_under_its_key(program: Joined) -> None:
    susan, path = await program("susan"), "users/susan/notifications/a"
    await susan.ok("PUT", path, {"data": 1})
    deleted = await susan.ok("DELETE", path, key="key")
    await susan.ok("PUT", path, {"data": 2})
    assert await susan.ok("DELETE", path, key="key") == deleted
    assert await state(susan) == {"a": 2}


async def test_refused_items_of_a_batch_are_tried_again(program: Joined, services: Services) -> None:
    susan = await program("susan")
    content = {"items": [{"user": "late", "key": "a", "data": 1}, {"user": "susan", "key": "a", "data": 1}]}
    first = (await susan.ok("POST", "notifications", content, "key"))["results"]
    late = await program("late")
    again = (await susan.ok("POST", "notifications", content, "key"))["results"]
    assert ([each["status"] for each in first], [each["status"] for each in again]) == ([404, 200], [200, 200])
    assert again[1] == first[1]
    assert await state(late) == {"a": 1}


@pytest.mark.parametrize("key", ["\x7f", "x" * 256])
async def test_invalid_key_is_refused(program: Joined, key: str) -> None:
    for method, path, content, _ in WRITES:
        assert await (await program()).code(method, path, content, key=key) == (400, "bad_request")


BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "bad_request"),
    (b"{", 400, "bad_request"),
    (b"[]", 400, "bad_request"),
    (b"1", 400, "bad_request"),
    (b'{"data": 1}x', 400, "bad_request"),
    (b'{"data": 1, "data": 2}', 400, "bad_request"),
    (b'{"data": {"a": 1, "a": 2}}', 400, "bad_request"),
    (b'{"data": NaN}', 400, "bad_request"),
    (b'{"data": -Infinity}', 400, "bad_request"),
    (b'{"data": 1e999}', 400, "bad_request"),
    (b'{"data": 9007199254740992}', 400, "bad_request"),
    (b'{"data": ' + b"9" * 5000 + b"}", 400, "bad_request"),
    (b'{"data": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "bad_request"),
    (b'{"data": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400, "bad_request"),
    (b'{"data": "\xff"}', 400, "bad_request"),
    (b'\xef\xbb\xbf{"data": 1}', 400, "bad_request"),
    (b'{"data": "\\u0000"}', 400, "invalid_text"),
    (b'{"data": "\\ud800"}', 400, "invalid_text"),
    (b'{"data": {"\\ud800": 1}}', 400, "invalid_text"),
    (b"{}", 422, "invalid"),
    (b'{"data": 1, "extra": 1}', 422, "invalid"),
    (b'{"data": 1, "\\ud83d\\ude00": 1}', 422, "invalid"),
    (b'{"data": "' + b"x" * 4095 + b'"}', 422, "invalid"),
    (b'{"data": "' + b"x" * 70_000 + b'"}', 413, "too_large"),
]


@pytest.mark.parametrize(("content", "status", "code"), BODIES, ids=lambda value: repr(value)[:40])
async def test_body_is_read_strictly(program: Joined, content: bytes, status: int, code: str) -> None:
    susan = await program()
    assert await susan.code("PUT", "users/susan/notifications/a", content) == (status, code)
    assert await state(susan) == {}


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("messages", {"recipient": 1, "body": "x"}),
        ("messages", {"recipient": "susan"}),
        ("messages", {"recipient": "susan", "body": " "}),
        ("messages", {"recipient": "susan", "body": "x" * 141}),
        ("messages/read", {}),
        ("messages/read", {"all": False}),
        ("messages/read", {"all": True, "from": 1}),
        ("messages/read", {"from": "1"}),
        ("messages/read", {"from": True}),
        ("messages/read", {"up_to": -1}),
        ("notifications", {"items": {}}),
    ],
)
async def test_wrong_fields_are_refused(program: Joined, path: str, content: Any) -> None:
    assert await (await program()).code("POST", path, content) == (422, "invalid")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=latin-1"]
)
async def test_other_media_types_are_refused(program: Joined, kind: str) -> None:
    susan = await program()
    answer = await susan.call("POST", "messages", b"{}", **{"Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    accepted = await susan.call(
        "POST", "messages/read", b'{"all": true}', **{"Content-Type": "application/json; charset=UTF-8"}
    )
    assert accepted.is_success


async def test_data_may_have_4_kib(program: Joined) -> None:
    susan = await program()
    await susan.ok("PUT", "users/susan/notifications/a", {"data": "x" * 4094})
    assert await susan.code("PUT", "users/susan/notifications/a", {"data": "x" * 4095}) == (422, "invalid")


@pytest.mark.parametrize("key", ["unread_message_count", "unread_", "x" * 129])
async def test_names_of_the_application_are_refused(program: Joined, key: str) -> None:
    susan = await program()
    assert await susan.code("PUT", f"users/susan/notifications/{key}", {"data": 1}) == (422, "invalid")
    assert await susan.code("DELETE", f"users/susan/notifications/{key}") == (422, "invalid")


NEEDS = [
    ("POST", "messages", SEND_MESSAGES),
    ("GET", "messages", READ_MESSAGES),
    ("POST", "messages/read", READ_MESSAGES),
    ("PUT", "users/susan/notifications/a", PUBLISH_NOTIFICATIONS),
    ("DELETE", "users/susan/notifications/a", PUBLISH_NOTIFICATIONS),
    ("POST", "notifications", PUBLISH_NOTIFICATIONS),
    ("GET", "/notifications", READ_NOTIFICATIONS),
]


@pytest.mark.parametrize(("method", "path", "scope"), NEEDS)
async def test_each_operation_needs_its_scope(program: Joined, method: str, path: str, scope: str) -> None:
    susan = await program("susan", *(each for each in SCOPES if each != scope))
    answer = await susan.call(method, path, None if method in ("GET", "DELETE") else {})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert scope in answer.json()["detail"]


async def test_ended_token_is_refused(program: Joined, services: Services) -> None:
    susan = await program()
    (token,) = await services.tokens.of_user(1)
    assert (await susan.ok("GET", "tokens"))["tokens"][0]["current"]
    await services.tokens.revoke(1, token.id)
    for headers in (susan.headers, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"}, {}):
        susan.headers = headers
        answer = await susan.call("GET", "tokens")
        assert (answer.status_code, answer.json()["code"]) == (401, "signed_out")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="microblog-rt"'
    susan.headers = {"Authorization": f"Bearer mbrt_1_{'x' * 43}"}
    assert await susan.code("PUT", "users/susan/notifications/a", b"x" * 70_000) == (401, "signed_out")


async def test_unknown_paths_and_methods_are_refused(program: Joined) -> None:
    susan = await program()
    for path in ("nothing", "", "users/", "users/a/b", "messages/", "users/a/notifications/"):
        assert await susan.code("GET", path) == (404, "not_found")
    for path, allowed in (("messages", "GET, HEAD, POST"), ("notifications", "POST"), ("users/susan", "GET, HEAD")):
        answer = await susan.call("PATCH", path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert (await susan.call("HEAD", "tokens")).status_code == 200


async def test_own_sessions_tokens_and_users_are_shown(program: Joined, join: Join) -> None:
    await join("susan")
    susan = await program("susan", READ_MESSAGES)
    sessions = await susan.ok("GET", "sessions")
    assert sessions["username"] == "susan"
    assert [each["current"] for each in sessions["sessions"]] == [False]
    (token,) = (await susan.ok("GET", "tokens"))["tokens"]
    assert (token["name"], token["scopes"], token["current"], token["expires"]) == ("test", [READ_MESSAGES], True, None)
    assert "hash" not in json.dumps([sessions, token])
    user = await susan.ok("GET", "users/SUSAN")
    assert (user["username"], user["disabled"]) == ("susan", False)
    assert await susan.code("GET", "users/missing") == (404, "not_found")


async def test_session_calls_with_its_origin_and_csrf_token(join: Join) -> None:
    susan, john = await join("susan"), await join("john")
    content = json.dumps({"recipient": "john", "body": "hello"})

    async def status(browser: Browser, **more: str | None) -> int:
        headers = {"Origin": ORIGIN, "Content-Type": "application/json", "X-CSRFToken": await browser.token(), **more}
        sent = {name: value for name, value in headers.items() if value is not None}
        return (await browser.client.post(f"{API}messages", data=content, headers=sent)).status_code

    assert await status(susan) == 201
    assert await status(susan, **{"X-CSRFToken": None}) == 403
    assert await status(susan, **{"X-CSRFToken": await john.token()}) == 403
    assert await status(susan, Origin=None) == 403
    assert await status(susan, Origin="https://evil.example") == 403
    page = await (await john.get(f"{API}messages")).get_json()
    assert [each["body"] for each in page["messages"]] == ["hello"]
    assert (await john.get(f"{API}sessions")).status_code == 200
    refused = await susan.client.put(
        f"{API}users/john/notifications/a",
        data='{"data": 1}',
        headers={"Origin": ORIGIN, "X-CSRFToken": await susan.token(), "Content-Type": "application/json"},
    )
    assert (refused.status_code, (await refused.get_json())["code"]) == (403, "forbidden")


async def test_send_limit_applies(program: Joined, services: Services) -> None:
    susan = await program()
    assert services.messages._limit is not None
    services.messages._limit = services.messages._limit._replace(times=1)
    await susan.ok("POST", "messages", {"recipient": "susan", "body": "1"})
    answer = await susan.call("POST", "messages", {"recipient": "susan", "body": "2"})
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many")
    assert int(answer.headers["Retry-After"]) > 0


def refused_for(answer: httpx.Response) -> int:
    """The seconds to wait after a refusal over a limit."""
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many"), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    return int(answer.headers["Retry-After"])


@pytest.mark.parametrize("changes", [{"publish_limit": Limit(4, 3600)}])
async def test_publish_limit_counts_items_of_each_publisher(app: Quart, program: Joined) -> None:
    susan, john = await program("susan"), await program("john")
    again = await program("susan")  # another token of the same user
    items = [{"user": "john", "key": f"n{number}", "data": 1} for number in range(3)]
    await susan.ok("POST", "notifications", {"items": items})
    await again.ok("PUT", "users/john/notifications/n0", {"data": 2})
    for method, path, content in [
        ("PUT", "users/john/notifications/n0", {"data": 3}),
        ("DELETE", "users/john/notifications/n0", None),
        ("POST", "notifications", {"items": items[:1]}),
    ]:
        assert 0 < refused_for(await susan.call(method, path, content)) <= 900
        assert 0 < refused_for(await again.call(method, path, content)) <= 900
    assert (await state(john))["n0"] == 2
    await john.ok("DELETE", "users/john/notifications/n0")
    too_many = await john.call("POST", "notifications", {"items": items * 2})
    assert 0 < refused_for(too_many) <= 900, "more than is left, although more than the limit"


async def test_unknown_host_is_refused(program: Joined) -> None:
    assert await (await program()).code("GET", "tokens", Host="evil.example") == (400, "host_unknown")

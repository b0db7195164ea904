"""The pages: content, form errors, limits."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from quart import Quart, Response
from werkzeug.datastructures import Headers

from microblog_rt import files
from microblog_rt.services import Services
from microblog_rt.settings import Limit, Settings
from microblog_rt.web import static_files
from tests.conftest import PASSWORD
from tests.web.conftest import HEADERS, ORIGIN, Browser, Join, badge, field, link, shown, text

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def changes() -> dict[str, Any]:
    """Settings that differ from the defaults; tests override it with parametrize."""
    return {}


@pytest.fixture
def settings(settings: Settings, changes: dict[str, Any]) -> Settings:
    return replace(settings, **changes)


async def test_home_page_without_session(stranger: Browser) -> None:
    answer = await stranger.get("/")
    page = await text(answer)
    assert answer.status_code == 200
    assert "/auth/login" in page
    assert "/rt/" not in page


async def test_registering_signs_in(stranger: Browser) -> None:
    answer = await stranger.register("susan")
    assert (answer.status_code, answer.location) == (303, "/")
    page = await text(await stranger.get("/"))
    assert badge(page) == "0"
    assert "/rt/main.js" in page


@pytest.mark.sqlite
async def test_profile_costs_two_calls_to_a_thread(stranger: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queries of the session and of the profile."""
    await stranger.register("susan")
    loop = asyncio.get_running_loop()
    in_thread = Mock(side_effect=loop.run_in_executor)
    monkeypatch.setattr(loop, "run_in_executor", in_thread)
    assert (await stranger.get("/user/susan")).status_code == 200
    assert in_thread.call_count == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"username": "a"}, "2 to 64"),
        ({"username": HOSTILE}, "2 to 64"),
        ({"password": "short", "password2": "short"}, "8 to 1024"),
        ({"password2": "something else"}, "do not match"),
        ({"password": "iloveyou", "password2": "iloveyou"}, "most common passwords"),
        ({"email": "nowhere"}, "not a valid email address"),
    ],
)
async def test_invalid_registration_keeps_the_input(stranger: Browser, change: dict[str, str], words: str) -> None:
    fields = {"email": "susan@example.org"} | change
    answer = await stranger.register(fields.pop("username", "susan"), **fields)
    page = await text(answer)
    assert answer.status_code == 422
    assert words in page
    assert field(page, "email") == fields["email"]
    assert field(page, "username") == change.get("username", "susan")
    assert HOSTILE not in page
    assert PASSWORD not in page


async def test_registration_shows_all_errors_at_once(stranger: Browser) -> None:
    answer = await stranger.register("a", email="nowhere", password="short", password2="other")
    page = await text(answer)
    for words in ("2 to 64", "8 to 1024", "do not match", "not a valid email address"):
        assert words in page


async def test_registration_with_taken_username(stranger: Browser, join: Join) -> None:
    await join("susan")
    answer = await stranger.register("Susan")
    assert answer.status_code == 422
    assert "taken" in await text(answer)


async def sign_in(browser: Browser, **fields: Any) -> str:
    answer = await browser.post("/auth/login", username="susan", password=PASSWORD, **fields)
    assert answer.status_code == 303
    return str(answer.location)


async def test_signing_in_and_out_and_in_again(stranger: Browser, join: Join) -> None:
    await join("susan")
    assert await sign_in(stranger) == "/"
    assert (await stranger.post("/auth/logout")).status_code == 303
    page = await text(await stranger.get("/"))
    assert "You have signed out." in page
    assert "message_count" not in page
    await sign_in(stranger)


async def test_logout_ends_the_session_on_the_server(app: Quart, join: Join) -> None:
    susan = await join("susan")
    cookie = cookies(susan)
    await susan.post("/auth/logout")
    thief = app.test_client(use_cookies=False)
    assert (await thief.get("/notifications", headers={"Cookie": cookie})).status_code == 401
    assert "message_count" not in await text(await thief.get("/", headers={"Cookie": cookie}))


def cookies(browser: Browser) -> str:
    assert browser.client.cookie_jar is not None
    return "; ".join(f"{each.name}={each.value}" for each in browser.client.cookie_jar)


async def test_each_sign_in_has_a_new_session_and_ends_the_old_one(app: Quart, join: Join) -> None:
    susan = await join("susan")
    before = cookies(susan)
    await sign_in(susan)
    assert cookies(susan) != before
    replay = app.test_client(use_cookies=False)
    assert (await replay.get("/notifications", headers={"Cookie": before})).status_code == 401
    assert (await susan.get("/notifications")).status_code == 200


@pytest.mark.parametrize("changes", [{"session_lifetime": 7200}])
async def test_a_remembered_cookie_lasts_as_long_as_its_session_may(stranger: Browser, join: Join) -> None:
    await join("susan")
    answer = await stranger.post("/auth/login", username="susan", password=PASSWORD, remember_me="y")
    assert "Max-Age=7200;" in session_cookie(answer.headers.getlist("Set-Cookie"))


async def test_remember_me_sets_the_lifetime_of_the_cookie(stranger: Browser, join: Join) -> None:
    await join("susan")
    answer = await stranger.post("/auth/login", username="susan", password=PASSWORD)
    assert "Max-Age" not in session_cookie(answer.headers.getlist("Set-Cookie"))
    answer = await stranger.post("/auth/login", username="susan", password=PASSWORD, remember_me="y")
    assert f"Max-Age={90 * 86400}" in session_cookie(answer.headers.getlist("Set-Cookie"))


def session_cookie(headers: list[str]) -> str:
    (found,) = [each for each in headers if each.startswith("microblog_session_")]
    assert "HttpOnly" in found
    assert "SameSite=Lax" in found
    return found


async def test_wrong_password_keeps_only_the_username(stranger: Browser, join: Join) -> None:
    await join("susan")
    answer = await stranger.post("/auth/login", username="susan", password="not the password")
    page = await text(answer)
    assert answer.status_code == 422
    assert "Wrong username or password" in page
    assert field(page, "username") == "susan"
    assert "not the password" not in page


INNER = [
    "/messages",
    "/messages?before=1.5",
    "/user/susan",
    "/send_message/susan",
    "/auth/sessions",
    "/auth/change_password",
    "/auth/logout_everywhere",
]


@pytest.mark.parametrize("path", INNER)
async def test_login_redirects_back_to_the_requested_page(stranger: Browser, join: Join, path: str) -> None:
    await join("susan")
    answer = await stranger.get(path)
    assert answer.status_code == 303
    page = await text(await stranger.get(answer.location))
    assert await sign_in(stranger, next=field(page, "next")) == path


OUTSIDE = [
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example/",
    "\\\\evil.example",
    "/\t/evil.example/",
    "javascript:alert(1)",
    "evil.example",
    " /messages",
    "/messages\r\nSet-Cookie: a=b",
]


@pytest.mark.parametrize("target", OUTSIDE)
async def test_next_never_redirects_to_another_site(stranger: Browser, join: Join, target: str) -> None:
    await join("susan")
    assert await sign_in(stranger, next=target) == "/"
    stranger_again = await stranger.get("/auth/login", query_string={"next": target})
    assert stranger_again.location == "/"


async def test_sending_shows_on_the_recipients_next_page(join: Join) -> None:
    susan, john = await join("susan"), await join("john")
    page = await text(await john.get("/user/susan"))
    assert "/send_message/susan" in page
    answer = await john.post("/send_message/susan", message="hello susan", nonce="n0nce")
    assert (answer.status_code, answer.location) == (303, "/user/susan#sent=n0nce")
    assert "Your message has been sent." in await text(await john.get(answer.location))
    assert badge(await text(await susan.get("/"))) == "1"
    page = await text(await susan.get("/messages?list=received"))
    assert "hello susan" in page
    assert badge(page) == "1"  # a GET marks nothing


async def test_empty_conversations_page_links_to_the_people(join: Join) -> None:
    susan = await join("susan")
    page = await text(await susan.get("/messages"))
    assert 'href="/people">Choose a person to write to' in page


async def test_message_to_oneself_is_allowed_but_not_offered(join: Join) -> None:
    susan = await join("susan")
    assert "/send_message/susan" not in await text(await susan.get("/user/susan"))
    await susan.post("/send_message/susan", message="note to self")
    page = await text(await susan.get("/messages?list=received"))
    assert shown(page) == ["note to self"]
    assert badge(page) == "0"  # it is read already


@pytest.mark.parametrize("message", ["", "   \r\n ", "x" * 141])
async def test_a_bad_message_keeps_the_form(join: Join, services: Services, message: str) -> None:
    susan = await join("susan")
    answer = await susan.post("/send_message/susan", message=message, nonce="kept")
    page = await text(answer)
    assert answer.status_code == 422
    assert message.strip() in page
    assert field(page, "nonce") == "kept"
    assert (await services.messages.inbox(1, 10)).rows == []


async def test_page_of_one_user_gets_no_notifications_of_another(join: Join, services: Services) -> None:
    """A tab left open while another user signed in on the same browser."""
    susan, john = await join("susan"), await join("john")
    await services.messages.send_message(1, 2, "for john alone")
    address = re.search(r'data-notifications="([^"]+)"', await text(await susan.get("/")))
    assert address
    assert (await susan.get(address[1])).status_code == 200
    assert (await john.get(address[1])).status_code == 401
    assert (await john.get(address[1] + "&since=0&wait=5")).status_code == 401


async def test_repeated_send_says_already_sent(join: Join, services: Services) -> None:
    susan = await join("susan")
    nonce = field(await text(await susan.get("/send_message/susan")), "nonce")
    pages = []
    for _ in range(2):
        assert (await susan.post("/send_message/susan", message="hello", nonce=nonce)).status_code == 303
        pages.append(await text(await susan.get("/")))
    posts = (await services.messages.inbox(1, 10)).rows
    assert len(posts) == 1
    sentences = ("Your message has been sent.", "This message was already sent.")
    assert [[page.count(each) for each in sentences] for page in pages] == [[1, 0], [0, 1]]


async def test_retry_with_idempotency_key_gets_the_first_result(join: Join, services: Services) -> None:
    susan = await join("susan")
    key = {"Idempotency-Key": '"one key"', "Accept": "application/json"}
    for path, nonce in (("/send_message/susan", "one"), ("/send_message/Susan", "two")):
        answer = await susan.post(path, headers=key, message="hello", nonce=nonce)
        assert (answer.status_code, answer.location) == (303, "/user/susan")
    for headers in (key, key | {"Accept": "text/html"}):
        answer = await susan.post("/send_message/susan", headers=headers, message="goodbye")
        assert answer.status_code == 422
        assert "already used for another request" in await text(answer)
    assert [post.body for post in (await services.messages.inbox(1, 10)).rows] == ["hello"]


@pytest.mark.parametrize("keys", [[""], ["x" * 256], ["caf\xe9"], ["a\tb"], ["a", "a"]])
@pytest.mark.sqlite
async def test_invalid_idempotency_key_is_refused(join: Join, services: Services, keys: list[str]) -> None:
    susan = await join("susan")
    headers = [("Origin", ORIGIN), ("Accept", "application/json"), *(("Idempotency-Key", key) for key in keys)]
    form = {"csrf_token": await susan.token(), "message": "hello"}
    answer = await susan.client.post("/send_message/susan", form=form, headers=Headers(headers))
    assert (answer.status_code, (await answer.get_json())["code"]) == (400, "bad_request")
    assert (await services.messages.inbox(1, 10)).rows == []


@pytest.mark.parametrize("changes", [{"send_limit": None}])
async def test_client_that_renders_no_page_does_not_fill_its_cookie(join: Join) -> None:
    susan = await join("susan")
    token = await susan.token()
    for number in range(100):
        answer = await susan.post("/send_message/susan", message=str(number), csrf_token=token)
        assert answer.status_code == 303
    assert len(answer.headers.get("Set-Cookie", "")) < 1000


TOO_OFTEN = re.compile(r"Try again in (about )?\d+ (seconds|minutes)")


@pytest.mark.parametrize("changes", [{"send_limit": Limit(1, 60)}])
async def test_a_message_over_the_limit_is_kept_in_its_form(join: Join, services: Services) -> None:
    susan = await join("susan")
    assert (await susan.post("/send_message/susan", message="hello", nonce="one")).status_code == 303
    answer = await susan.post("/send_message/susan", message="my long thought", nonce="two")
    page = await text(answer)
    assert answer.status_code == 429
    assert 50 <= int(answer.headers["Retry-After"]) <= 60
    assert TOO_OFTEN.search(page)
    assert "my long thought" in page
    assert field(page, "nonce") == "two"
    assert (await susan.post("/send_message/susan", message="hello", nonce="one")).status_code == 303
    assert len((await services.messages.inbox(1, 10)).rows) == 1


@pytest.mark.parametrize("changes", [{"send_limit": Limit(1, 60)}])
async def test_limit_is_reported_to_programs_as_problem_json(join: Join) -> None:
    susan = await join("susan")
    for _ in range(2):
        answer = await susan.post("/send_message/susan", message="hello", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.content_type) == (429, "application/problem+json")
    assert (await answer.get_json())["code"] == "too_many"
    assert 50 <= int(answer.headers["Retry-After"]) <= 60


@pytest.mark.parametrize("changes", [{"sign_in_limit": Limit(1, 300)}])
async def test_login_over_the_limit_keeps_only_the_username(stranger: Browser, join: Join) -> None:
    await join("susan")
    await stranger.post("/auth/login", username="susan", password="not the password")
    answer = await stranger.post("/auth/login", username="susan", password=PASSWORD)
    page = await text(answer)
    assert answer.status_code == 429
    assert 290 <= int(answer.headers["Retry-After"]) <= 300
    assert "Try again in about 5 minutes" in page
    assert field(page, "username") == "susan"
    assert PASSWORD not in page


async def post_from(address: str, browser: Browser, path: str, **fields: str) -> Response:
    form = {"csrf_token": await browser.token(), **fields}
    scope = {"client": [address, 1]}
    return await browser.client.post(path, form=form, headers=HEADERS, scope_base=scope)


@pytest.mark.parametrize("changes", [{"sign_in_limit": Limit(1, 300)}])
async def test_login_limit_by_address_covers_all_usernames(app: Quart, stranger: Browser, join: Join) -> None:
    await join("susan")

    async def tried(name: str, address: str) -> int:
        answer = await post_from(address, stranger, "/auth/login", username=name, password="not the password")
        return int(answer.status_code)

    assert [await tried(name, "192.0.2.1") for name in ("a1", "a2", "a3")] == [422, 429, 429]
    assert await tried("a4", "192.0.2.2") == 422


@pytest.mark.parametrize("changes", [{"register_limit": Limit(1, 60)}])
async def test_registration_over_the_limit_keeps_the_input(stranger: Browser) -> None:
    answers = []
    for name in ("susan", "john"):
        fields = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "password2": PASSWORD}
        answers.append(await post_from("192.0.2.1", stranger, "/auth/register", **fields))
        await stranger.post("/auth/logout")
    first, second = answers
    page = await text(second)
    assert (first.status_code, second.status_code) == (303, 429)
    assert "Retry-After" in second.headers
    assert TOO_OFTEN.search(page)
    assert (field(page, "username"), field(page, "email")) == ("john", "john@example.org")
    assert PASSWORD not in page


async def test_a_large_body_is_refused_and_nothing_is_lost(join: Join, services: Services) -> None:
    susan = await join("susan")
    answer = await susan.post("/send_message/susan", message="x" * 1_000_000)
    assert answer.status_code == 413
    page = await text(answer)
    assert "too large" in page
    assert 'href="/send_message/susan">Back to your message' in page
    assert (await susan.get("/messages")).status_code == 200


@pytest.mark.parametrize("path", ["/user/nobody", "/send_message/nobody", "/nothing/here", f"/user/{HOSTILE}"])
async def test_unknown_paths_get_404(join: Join, path: str) -> None:
    susan = await join("susan")
    answer = await susan.get(path)
    page = await text(answer)
    assert answer.status_code == 404
    assert "<h1>" in page
    assert HOSTILE not in page


@pytest.mark.parametrize("path", ["/send_message/john", "/user/john"])
async def test_page_says_that_a_disabled_person_gets_no_messages(join: Join, services: Services, path: str) -> None:
    """Before anything is typed."""
    await join("john")
    susan = await join("susan")
    await services.accounts.disable("john")
    page = await text(await susan.get(path))
    assert "This account is disabled and receives no messages." in page
    assert "<textarea" not in page
    assert 'href="/send_message/john"' not in page


async def test_message_to_unknown_user_gets_404(join: Join) -> None:
    susan = await join("susan")
    assert (await susan.post("/send_message/nobody", message="hello")).status_code == 404


@pytest.mark.parametrize(
    "query", ["before=x", "after=", "before=-1", "after=nan", "before=1&after=2", "after=1&after=1"]
)
@pytest.mark.parametrize("path", ["/messages", "/mentions", "/", "/explore", "/user/susan", "/auth/sessions"])
async def test_invalid_page_key_gets_400(join: Join, path: str, query: str) -> None:
    susan = await join("susan")
    assert (await susan.get(f"{path}?{query}")).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/messages?before=0",
        "/mentions?before=0",
        "/people?after=~",
        "/?before=1",
        "/explore?before=1",
        "/user/susan?before=1",
        "/auth/sessions?before=0",
    ],
)
async def test_page_past_the_end_is_empty(join: Join, path: str) -> None:
    susan = await join("susan")
    answer = await susan.get(path)
    assert answer.status_code == 200
    assert "This page is empty." in await text(answer) or path.startswith("/auth")


async def test_markup_in_messages_is_shown_as_it_was_typed(join: Join) -> None:
    susan = await join("susan")
    await susan.post("/send_message/susan", message=HOSTILE)
    page = await text(await susan.get("/messages?list=received"))
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


async def test_a_long_inbox_has_newer_and_older_pages(join: Join, services: Services) -> None:
    susan = await join("susan")
    await join("john")
    for number in range(30):
        await services.messages.send_message(2, 1, f"message {number}")
    first = await text(await susan.get("/messages?list=received"))
    assert "message 29" in first
    assert "Newer" not in first
    await services.messages.send_message(2, 1, "arrived meanwhile")
    second = await text(await susan.get(link(first, "next")))
    assert shown(second) == [f"message {number}" for number in (4, 3, 2, 1, 0)]
    assert "Older" not in second
    newer = await text(await susan.get(link(second, "prev")))
    assert shown(newer) == shown(first)
    assert shown(await text(await susan.get(link(newer, "prev")))) == ["arrived meanwhile"]


async def test_people_are_listed_in_pages(join: Join, services: Services) -> None:
    susan = await join("susan")
    for number in range(30):
        await services.accounts.register(f"person{number:02}", PASSWORD)
    first = await text(await susan.get("/people"))
    assert "person00" in first
    second = await text(await susan.get(link(first, "next")))
    assert ">susan</a>" in second
    assert "person00" in await text(await susan.get(link(second, "prev")))


async def test_marking_what_was_shown_leaves_the_rest_unread(join: Join, services: Services) -> None:
    susan = await join("susan")
    await join("john")
    for number in range(30):
        await services.messages.send_message(2, 1, f"message {number}")
    page = await text(await susan.get("/messages?list=received"))
    await services.messages.send_message(2, 1, "came after")
    interval = {"from": field(page, "from"), "up_to": field(page, "up_to")}
    answer = await susan.post("/messages/read", **interval, headers={"Accept": "application/json"})
    assert answer.content_type == "application/json"
    (notification,) = await answer.get_json()
    assert (notification["name"], notification["data"]) == ("unread_message_count", 6)
    second = await text(await susan.get(link(page, "next")))
    assert second.count(">unread</span>") == 5


async def test_mark_all_marks_what_the_page_knew_of(join: Join, services: Services) -> None:
    susan = await join("susan")
    await join("john")
    for number in range(30):
        await services.messages.send_message(2, 1, f"message {number}")
    page = await text(await susan.get("/messages?list=received"))
    await services.messages.send_message(2, 1, "came after")
    await susan.post("/messages/read", up_to=re.findall(r'name="up_to" value="([^"]*)"', page)[-1])
    assert badge(await text(await susan.get("/"))) == "1"


async def test_marking_without_javascript_redirects_back(join: Join, services: Services) -> None:
    susan = await join("susan")
    await join("john")
    await services.messages.send_message(2, 1, "hello")
    answer = await susan.post("/messages/read", headers={"Referer": "http://localhost/messages?before=2"})
    assert (answer.status_code, answer.location) == (303, "/messages?before=2")
    assert badge(await text(await susan.get("/messages"))) == "0"
    answer = await susan.post("/messages/read", headers={"Referer": "https://evil.example/messages"})
    assert answer.location == "/messages"


@pytest.mark.parametrize("up_to", ["", "nan", "inf", "-1", "yesterday", "1e309"])
async def test_invalid_up_to_is_refused(join: Join, services: Services, up_to: str) -> None:
    susan = await join("susan")
    await join("john")
    await services.messages.send_message(2, 1, "hello")
    answer = await susan.post("/messages/read", up_to=up_to, headers={"Accept": "application/json"})
    assert answer.status_code == 400
    assert (await answer.get_json())["code"] == "bad_request"
    assert badge(await text(await susan.get("/"))) == "1"


async def test_marking_needs_a_session(stranger: Browser) -> None:
    answer = await stranger.post("/messages/read", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.content_type) == (401, "application/problem+json")


STATES = re.compile(r"^(POST|PUT|PATCH|DELETE)$")


async def test_state_changes_need_token_and_own_origin(app: Quart, join: Join, services: Services) -> None:
    """Every state-changing route: without a token, with another user's token, from another site."""
    susan, john = await join("susan"), await join("john")
    await services.posts.post(1, "a post")
    johns = await john.token()
    routes = [
        re.sub(r"<int.*>", "1", str(rule)).replace("<username>", "susan").replace("<recipient>", "susan")
        for rule in app.url_map.iter_rules()
        if any(STATES.match(method) for method in rule.methods or ())
    ]
    assert len(routes) >= 5
    for route in routes:
        own = await susan.token()
        for token, origin in ((None, None), (johns, None), ("", None), (own, "https://evil.example"), (own, "null")):
            headers = {"Origin": origin} if origin else {}
            answer = await susan.post(route, csrf_token=token, message="x", post="x", headers=headers)
            assert answer.status_code == 403, (route, token, origin)
    assert (await services.messages.inbox(1, 10)).rows == []
    assert [each.body for each in (await services.posts.explore(10)).rows] == ["a post"]
    assert (await susan.get("/notifications")).status_code == 200


async def test_the_token_may_come_in_a_header(join: Join) -> None:
    susan = await join("susan")
    headers = {"X-CSRFToken": await susan.token(), "Origin": "http://localhost"}
    answer = await susan.post("/send_message/susan", csrf_token=None, message="hello", headers=headers)
    assert answer.status_code == 303


async def test_get_requests_write_no_notifications(app: Quart, join: Join, services: Services) -> None:
    susan = await join("susan")
    await services.messages.send_message(1, 1, "hello")
    before = await text(await susan.get("/notifications"))
    for rule in app.url_map.iter_rules():
        path = str(rule).replace("<username>", "susan").replace("<recipient>", "susan")
        if "GET" in (rule.methods or ()) and "<" not in path:
            await susan.get(path)
    assert await text(await susan.get("/notifications")) == before


async def test_every_page_forbids_inline_script_and_style_and_has_none(join: Join, stranger: Browser) -> None:
    susan = await join("susan")
    await susan.post("/send_message/susan", message="hello")
    pages = [(stranger, path) for path in ("/", "/auth/login", "/auth/register", "/nothing")]
    pages += [(susan, path) for path in ("/", "/messages", "/user/susan", "/send_message/susan", "/nothing")]
    pages += [(susan, path) for path in ("/auth/sessions", "/auth/change_password", "/auth/logout_everywhere")]
    for browser, path in pages:
        answer = await browser.get(path)
        page = await text(answer)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page), path


async def test_static_files_are_kept_forever_by_version(stranger: Browser) -> None:
    """A page of another version, during an upgrade, gets the files too, and does not keep them."""
    own, other = (f"/static/{version}/rt/main.js" for version in (static_files.current_version(), "0" * 16))
    for path, kept in ((own, "max-age=31536000, immutable"), (other, "no-store"), (f"{own}x", "no-store")):
        answer = await stranger.get(path)
        assert answer.headers["Cache-Control"] == kept
        assert (answer.status_code == 200) == (not path.endswith("x"))
        # The page of an error has a form, and so a cookie.
        assert ("Set-Cookie" in answer.headers) == (answer.status_code == 404)
    assert (await stranger.get(own)).content_type == "text/javascript; charset=utf-8"


IMPORT = re.compile(r'^\s*(?:import|export)\b.*"\./([^"]+)"', re.MULTILINE)


@pytest.mark.parametrize(("path", "entry"), [("/", "rt/main.js"), ("/send_message/susan", "rt/send_form.js")])
async def test_page_names_every_module_that_a_script_imports(join: Join, path: str, entry: str) -> None:
    page = await text(await (await join("susan")).get(path))
    wanted, found = {entry}, {""}
    while wanted != found:
        found = set(wanted)
        for name in found:
            imports = re.findall(
                r'^\s*(?:import|export)\b.*"\./([^"]+)"', (files.STATIC / name).read_text(), re.MULTILINE
            )
            wanted |= {f"rt/{each}" for each in imports}
    assert len(found) > 2
    prefix = f"/static/{static_files.current_version()}/"
    preloaded = set(re.findall(rf'<link rel="modulepreload" href="{prefix}([^"]+)">', page))
    assert f'<script type="module" src="{prefix}{entry}"></script>' in page
    assert preloaded >= found - {entry}


def test_version_changes_with_any_static_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "STATIC", tmp_path)
    versions = set()
    (tmp_path / "folder").mkdir()
    for name, content in (("a", "1"), ("a", "2"), ("folder/b", ""), ("folder/b", "1")):
        (tmp_path / name).write_text(content)
        static_files.current_version.cache_clear()
        versions.add(static_files.current_version())
    static_files.current_version.cache_clear()
    assert len(versions) == 4


async def test_pages_use_the_preferred_language(stranger: Browser) -> None:
    spanish = await text(await stranger.get("/auth/login", headers={"Accept-Language": "es-MX,es;q=0.9,en;q=0.5"}))
    other = await text(await stranger.get("/auth/login", headers={"Accept-Language": "de"}))
    assert 'lang="es"' in spanish
    assert "Iniciar sesión" in spanish
    assert 'lang="en"' in other
    assert "Sign in" in other


async def test_errors_use_the_preferred_language(stranger: Browser) -> None:
    answer = await stranger.post("/auth/login", username="x", password="y", headers={"Accept-Language": "es"})
    assert "incorrectos" in await text(answer)
    answer = await stranger.get("/nothing", headers={"Accept-Language": "es"})
    assert "Página no encontrada" in await text(answer)


async def test_unexpected_error_is_logged_once_with_its_reference(
    join: Join, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    susan = await join("susan")

    async def broken(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr("microblog_rt.messages.Messages.inbox", broken)
    answer = await susan.get("/messages?list=received")
    page = await text(answer)
    assert answer.status_code == 500
    reference = re.search(r"Reference: ([0-9a-f]{8})", page)
    assert reference
    assert [reference[1] in record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [True]
    assert "broken on purpose" not in page


async def test_wrong_method_gets_405_with_allow(stranger: Browser) -> None:
    answer = await stranger.client.delete("/auth/login")
    assert answer.status_code in (403, 405)
    answer = await stranger.get("/auth/logout")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


async def test_a_page_for_every_status_can_be_shown(app: Quart) -> None:
    from microblog_rt.web.problems import TITLES, _answer

    async with app.test_request_context("/"):
        for status in TITLES:
            answer = await _answer(status, "code", "A sentence.")
            assert answer.status_code == status
            assert "A sentence." in await text(answer)

"""Forms outlive sign-ins and sign-outs: no text is lost, and none is sent under another name."""

from typing import Any

import pytest
from quart import Quart, Response

from microblog_rt.services import Services
from tests.conftest import PASSWORD
from tests.web.conftest import Browser, Join, field, text

TEXT = "my long thought " * 300  # far over the limit of a message
SEND = "/send_message/susan"


async def form_token(browser: Browser, path: str = SEND) -> str:
    """The token of the form in the page's content, not in its header."""
    return content_field(await text(await browser.get(path)), "csrf_token")


def content_field(page: str, name: str) -> str:
    return field(page.split("<main")[1], name)


async def sign_in(browser: Browser, name: str) -> None:
    assert (await browser.post("/auth/login", username=name, password=PASSWORD)).status_code == 303


async def bodies(services: Services) -> list[str]:
    """The messages that the first user has received."""
    return [post.body for post in (await services.messages.inbox(1, 100)).rows]


async def test_form_outlives_a_new_sign_in_of_the_same_user(join: Join, services: Services) -> None:
    susan = await join("susan")
    token = await form_token(susan)
    await susan.post("/auth/logout")
    await sign_in(susan, "susan")
    assert (await susan.post(SEND, message="hello", csrf_token=token)).status_code == 303
    assert await bodies(services) == ["hello"]


async def test_form_outlives_cookies_that_end_with_the_browser(app: Quart, join: Join, services: Services) -> None:
    susan = await join("susan")
    token = await form_token(susan)
    restarted = Browser(app.test_client())
    for cookie in susan.client.cookie_jar or []:
        if cookie.expires is not None:
            restarted.client.set_cookie("localhost", cookie.name, str(cookie.value))
    answer = await restarted.post(SEND, message="hello", csrf_token=token)
    assert answer.status_code == 401
    await sign_in(restarted, "susan")
    assert (await restarted.post(SEND, message="hello", csrf_token=token)).status_code == 303


async def test_browser_cookie_lasts_a_year_and_is_hidden_from_scripts(stranger: Browser) -> None:
    (cookie,) = (await stranger.get("/auth/login")).headers.getlist("Set-Cookie")
    assert cookie.startswith("microblog_browser_")
    for word in ("Max-Age=31536000", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert word in cookie
    assert "Set-Cookie" not in (await stranger.get("/auth/login")).headers


async def test_every_page_has_another_token(join: Join) -> None:
    susan = await join("susan")
    assert await form_token(susan) != await form_token(susan)


async def test_expired_form_is_shown_again_with_its_text(join: Join, services: Services) -> None:
    susan = await join("susan")
    answer = await susan.post(SEND, message="my long thought", nonce="kept", csrf_token="old")
    page = await text(answer)
    assert answer.status_code == 403
    assert "This page has expired. Your text is below; send it again." in page
    assert "my long thought" in page
    assert await bodies(services) == []
    fields: dict[str, Any] = {name: content_field(page, name) for name in ("csrf_token", "nonce")}
    assert fields["nonce"] == "kept"
    assert (await susan.post(SEND, message="my long thought", **fields)).status_code == 303


async def test_signed_out_form_keeps_text_of_any_length(join: Join, services: Services) -> None:
    susan = await join("susan")
    token = await form_token(susan)
    await services.accounts.set_password("susan", PASSWORD)
    answer = await susan.post(SEND, message=TEXT, nonce="kept", csrf_token=token)
    page = await text(answer)
    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers
    assert "You are signed out. Nothing was sent." in page
    assert 'href="/auth/login" target="_blank"' in page
    assert TEXT.strip() in page
    fields: dict[str, Any] = {name: content_field(page, name) for name in ("csrf_token", "nonce")}
    assert fields["nonce"] == "kept"
    await sign_in(susan, "susan")
    assert (await susan.post(SEND, message="now shorter", **fields)).status_code == 303
    assert await bodies(services) == ["now shorter"]


async def test_form_of_another_account_sends_nothing(join: Join, services: Services) -> None:
    browser = await join("susan")
    await services.accounts.register("john", PASSWORD)
    token = await form_token(browser)
    await sign_in(browser, "john")
    for _ in range(2):  # pressing Send again does not change whose the form is
        answer = await browser.post(SEND, message=TEXT, csrf_token=token)
        page = await text(answer)
        assert answer.status_code == 403
        assert "You are signed in as john now. Nothing was sent." in page
        assert TEXT.strip() in page
        token = content_field(page, "csrf_token")
    assert await bodies(services) == []
    await sign_in(browser, "susan")
    assert (await browser.post(SEND, message="hello", csrf_token=token)).status_code == 303


async def test_signed_out_form_is_not_sent_by_another_account(join: Join, services: Services) -> None:
    browser = await join("susan")
    await services.accounts.register("john", PASSWORD)
    token = await form_token(browser)
    await browser.post("/auth/logout")
    token = content_field(await text(await browser.post(SEND, message="hello", csrf_token=token)), "csrf_token")
    await sign_in(browser, "john")
    assert (await browser.post(SEND, message="hello", csrf_token=token)).status_code == 403
    assert await bodies(services) == []


async def test_token_from_before_signing_in_sends_nothing(stranger: Browser, join: Join, services: Services) -> None:
    await join("susan")
    token = await stranger.token()
    await sign_in(stranger, "susan")
    answer = await stranger.post(SEND, message="hello", csrf_token=token)
    assert answer.status_code == 403
    assert "This page has expired. Your text is below; send it again." in await text(answer)
    assert await bodies(services) == []


@pytest.mark.parametrize("path", ["/messages/read", "/auth/logout", "/auth/logout_everywhere", "/auth/change_password"])
async def test_other_forms_of_another_account_change_nothing(join: Join, services: Services, path: str) -> None:
    browser = await join("susan")
    await services.accounts.register("john", PASSWORD)
    await services.messages.send_message(1, 2, "for john")
    token = await form_token(browser)
    await sign_in(browser, "john")
    new: dict[str, Any] = {"old_password": PASSWORD, "password": "a new password", "password2": "a new password"}
    answer = await browser.post(path, csrf_token=token, **new)
    assert answer.status_code == 403
    assert "You are signed in as john now. Nothing was done." in await text(answer)
    assert (await browser.get("/notifications")).status_code == 200
    assert (await services.messages.inbox(2, 1)).rows[0].unread
    assert await services.accounts.opens("john", PASSWORD)


async def test_sign_out_in_a_stale_tab_works(join: Join) -> None:
    susan = await join("susan")
    token = await form_token(susan)
    for _ in range(2):
        assert (await susan.post("/auth/logout", csrf_token=token)).status_code == 303
        assert "You have signed out." in await text(await susan.get("/"))
    await sign_in(susan, "susan")
    assert (await susan.post("/auth/logout", csrf_token=token)).status_code == 303
    assert (await susan.get("/notifications")).status_code == 401


@pytest.mark.parametrize("path", ["/auth/login", "/auth/register"])
async def test_sign_in_form_works_although_a_user_has_signed_in(
    stranger: Browser, join: Join, services: Services, path: str
) -> None:
    await join("john")
    token = await stranger.token()
    await sign_in(stranger, "john")
    await services.accounts.register("susan", PASSWORD)
    name = "susan" if path == "/auth/login" else "mary"
    answer = await stranger.post(path, username=name, password=PASSWORD, password2=PASSWORD, csrf_token=token)
    assert answer.status_code == 303
    assert f"/user/{name}" in await text(await stranger.get("/"))


@pytest.mark.parametrize("path", ["/auth/login", "/auth/register"])
async def test_refused_cookies_are_named_as_the_cause(app: Quart, join: Join, path: str) -> None:
    await join("susan")
    cookieless = Browser(app.test_client(use_cookies=False))
    answer = await cookieless.post(path, username="susan", password=PASSWORD, password2=PASSWORD)
    page = await text(answer)
    assert answer.status_code == 403
    assert "This site needs cookies to sign you in." in page
    assert field(page, "username") == "susan"
    assert "microblog_browser_" in answer.headers["Set-Cookie"]


async def test_sign_in_works_once_cookies_are_allowed(app: Quart, join: Join) -> None:
    await join("susan")
    browser = Browser(app.test_client())
    answer = await browser.post("/auth/login", username="susan", password=PASSWORD, csrf_token="x")
    token = field(await text(answer), "csrf_token")
    answer = await browser.post("/auth/login", username="susan", password=PASSWORD, csrf_token=token)
    assert answer.status_code == 303


async def test_expired_sign_in_form_is_shown_again(stranger: Browser, join: Join) -> None:
    await join("susan")
    await stranger.token()
    answer = await stranger.post("/auth/login", username="susan", password=PASSWORD, csrf_token="old")
    assert answer.status_code == 403
    assert "This page has expired. Try again." in await text(answer)


async def test_sign_in_leads_back_to_a_page_with_any_letters(stranger: Browser, join: Join) -> None:
    await join("susan")
    await join("Владимир")
    page = "/send_message/%D0%92%D0%BB%D0%B0%D0%B4%D0%B8%D0%BC%D0%B8%D1%80?a=%20b"
    redirect = await stranger.get(page, headers={"Accept": "text/html"})
    target = field(await text(await stranger.get(redirect.location)), "next")
    answer = await stranger.post("/auth/login", username="susan", password=PASSWORD, next=target)
    assert answer.location == page


# Programs

PROGRAM = [
    {"Accept": "application/json"},
    {"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"},
    {"Accept": "*/*", "Idempotency-Key": "k"},
    {"Accept": "*/*"},
    {"Accept": ""},
]
CHANGES = ["/messages/read", SEND, "/auth/change_password", "/auth/sessions/end", "/auth/logout_everywhere"]


async def refusal(answer: Response) -> tuple[int, str]:
    """The status and code of a problem."""
    assert answer.content_type == "application/problem+json", await text(answer)
    problem = await answer.get_json(force=True)
    return answer.status_code, problem["code"]


@pytest.mark.parametrize("path", CHANGES)
async def test_ended_session_answers_programs_with_401(join: Join, services: Services, path: str) -> None:
    susan = await join("susan")
    token = await form_token(susan)
    await services.accounts.set_password("susan", PASSWORD)
    for headers in PROGRAM:
        answer = await susan.post(path, headers=headers, message="hello", csrf_token=token)
        assert await refusal(answer) == (401, "signed_out")
        assert answer.headers["WWW-Authenticate"] == 'Cookie realm="microblog-rt", form-action="/auth/login"'


@pytest.mark.sqlite
@pytest.mark.parametrize("path", [*CHANGES, "/auth/login", "/auth/logout"])
async def test_each_cause_of_a_refusal_has_its_code(app: Quart, join: Join, path: str) -> None:
    susan, john = await join("susan"), await join("john")
    token, other = await form_token(susan), await form_token(john)
    accept = {"Accept": "application/json"}

    async def code(token: str | None, headers: dict[str, str] = accept, browser: Browser = susan) -> tuple[int, str]:
        return await refusal(await browser.post(path, headers=accept | headers, csrf_token=token))

    assert await code(token, {"Origin": "https://evil.example"}) == (403, "origin_foreign")
    assert await code(token, {"Sec-Fetch-Site": "cross-site"}) == (403, "origin_foreign")
    assert await code(None) == (403, "csrf_missing")
    assert await code(token, browser=Browser(app.test_client())) == (403, "csrf_missing")
    assert await code(other) == (403, "csrf_wrong")
    assert await code(token + "x") == (403, "csrf_wrong")
    assert await code("\u0663" + token[1:]) == (403, "csrf_wrong")
    assert await code(token, {"Host": "evil.example"}) == (400, "host_unknown")
    without = await susan.client.post(path, form={"csrf_token": token}, headers=accept)
    assert await refusal(without) == (403, "origin_missing")


async def test_program_learns_that_another_account_is_signed_in(join: Join, services: Services) -> None:
    browser = await join("susan")
    await services.accounts.register("john", PASSWORD)
    before, headers = await form_token(browser), {"Accept": "application/json"}
    await sign_in(browser, "john")
    for path in ("/messages/read", SEND):
        answer = await browser.post(path, headers=headers, csrf_token=before)
        assert await refusal(answer) == (403, "other_account")
    assert "john" in (await answer.get_json(force=True))["detail"]


@pytest.mark.sqlite
async def test_invalid_message_is_a_problem_for_programs(join: Join) -> None:
    susan = await join("susan")
    answer = await susan.post(SEND, headers={"Accept": "application/json"}, message="x" * 141)
    assert await refusal(answer) == (422, "invalid")


@pytest.mark.sqlite
@pytest.mark.parametrize("method", ["FOO", "TRACE", "PUT", "DELETE"])
async def test_unknown_method_is_405_without_origin_or_token(stranger: Browser, method: str) -> None:
    options: dict[str, Any] = {"method": method}
    answer = await stranger.client.open("/auth/logout", **options)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "OPTIONS, POST")
    assert (await stranger.client.open("/nothing", **options)).status_code == 404


@pytest.mark.sqlite
async def test_browser_keeps_its_pages(join: Join) -> None:
    """A navigation names HTML, whatever else it sends."""
    susan = await join("susan")
    headers = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
    answer = await susan.post(SEND, headers=headers, message=" ")
    assert (answer.status_code, answer.mimetype) == (422, "text/html")

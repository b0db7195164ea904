"""The sessions page: the list, ending one or all, changing the password."""

import re
from typing import Any

import pytest
from quart import Quart, Response

from microblog_rt.accounts import session_name, token_hash
from microblog_rt.errors import Invalid
from microblog_rt.services import Services
from microblog_rt.web import devices
from tests.conftest import PASSWORD
from tests.web.conftest import Browser, Join, link, text

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
PIXEL = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Mobile Safari/537.36"
)
NEW_PASSWORD = "a new password"


async def sign_in(app: Quart, name: str, agent: str = "", **more: str) -> Browser:
    browser = Browser(app.test_client())
    fields: dict[str, Any] = {"username": name, "password": PASSWORD, **more}
    answer = await browser.post("/auth/login", headers={"User-Agent": agent}, **fields)
    assert answer.status_code == 303, await text(answer)
    return browser


async def listed(browser: Browser, path: str = "/auth/sessions") -> list[tuple[str, str]]:
    """The sessions on the page, as (label, name in the form)."""
    page = await text(await browser.get(path))
    words = re.findall(r'fw-semibold">([^<]*)<', page)
    return list(zip(words, re.findall(r'(?:name="session" value="|end\?session=)([^"]*)"', page), strict=True))


async def answers(browser: Browser) -> int:
    """The status of a poll with the browser's session."""
    return int((await browser.get("/notifications")).status_code)


async def test_sessions_page_lists_own_sessions(app: Quart, services: Services) -> None:
    await services.accounts.register("susan", PASSWORD)
    await services.accounts.register("john", PASSWORD)
    await sign_in(app, "john", "curl/8.5.0")
    browser = await sign_in(app, "susan", FIREFOX)
    await sign_in(app, "susan", PIXEL)
    page = await text(await browser.get("/auth/sessions"))
    assert [words for words, _ in await listed(browser)] == ["Firefox on Linux", "Chrome on Android"]
    assert page.count('fst-italic">This session<') == 1
    assert page.index("Firefox on Linux") < page.index("This session") < page.index("Chrome on Android")


async def test_ending_another_session_keeps_the_current_one(app: Quart, services: Services) -> None:
    await services.accounts.register("susan", PASSWORD)
    browser, other = await sign_in(app, "susan"), await sign_in(app, "susan", PIXEL)
    _, (_, name) = await listed(browser)
    page = await text(await browser.get(f"/auth/sessions/end?session={name}"))
    assert "Chrome on Android" in page
    for wrong in ("", "not the password"):
        answer = await browser.post("/auth/sessions/end", session=name, old_password=wrong)
        assert answer.status_code == 422
        assert "This is not your current password." in await text(answer)
    assert await answers(other) == 200
    answer = await browser.post("/auth/sessions/end", session=name, old_password=PASSWORD)
    assert (answer.status_code, answer.location) == (303, "/auth/sessions")
    assert "The session has been ended." in await text(await browser.get("/auth/sessions"))
    assert (await answers(browser), await answers(other)) == (200, 401)
    assert (await browser.post("/auth/sessions/end", session=name)).status_code == 303
    assert len(await listed(browser)) == 1


async def test_sessions_of_other_users_cannot_be_ended(app: Quart, services: Services) -> None:
    for name in ("susan", "john"):
        await services.accounts.register(name, PASSWORD)
    susan, john = await sign_in(app, "susan"), await sign_in(app, "john")
    ((_, johns),) = await listed(john)
    for name in (johns, "", "%", "x" * 10_000):
        assert (await susan.post("/auth/sessions/end", session=name, old_password=PASSWORD)).status_code == 303
    assert (await susan.post("/auth/sessions/end")).status_code == 303
    assert (await answers(susan), await answers(john)) == (200, 200)


async def test_ending_the_current_session_signs_out(app: Quart, services: Services) -> None:
    await services.accounts.register("susan", PASSWORD)
    browser, other = await sign_in(app, "susan"), await sign_in(app, "susan")
    (_, name), _ = await listed(browser)
    answer = await browser.post("/auth/sessions/end", session=name)
    assert (answer.status_code, answer.location) == (303, "/")
    assert "You have signed out." in await text(await browser.get("/"))
    assert (await answers(browser), await answers(other)) == (401, 200)


async def test_only_a_checked_form_signs_out(app: Quart, services: Services) -> None:
    await services.accounts.register("susan", PASSWORD)
    browser = await sign_in(app, "susan")
    ((_, name),) = await listed(browser)
    assert (await browser.get(f"/auth/sessions/end?session={name}")).location == "/auth/sessions"
    assert (await browser.post("/auth/sessions/end", session=name, csrf_token="old")).status_code == 403
    assert await answers(browser) == 200


async def test_session_name_is_no_credential(app: Quart, services: Services) -> None:
    user = await services.accounts.register("susan", PASSWORD)
    token = await services.sessions.start_session(user, remembered=True)
    name = session_name(token_hash(token))
    assert len(name) == 16
    assert name not in token


async def test_logout_everywhere_ends_all_own_sessions(app: Quart, services: Services) -> None:
    for name in ("susan", "john"):
        await services.accounts.register(name, PASSWORD)
    browser, other, john = [await sign_in(app, name) for name in ("susan", "susan", "john")]
    assert "Current password" in await text(await browser.get("/auth/logout_everywhere"))
    for wrong in ("", "not the password"):
        assert (await browser.post("/auth/logout_everywhere", old_password=wrong)).status_code == 422
    assert [await answers(each) for each in (browser, other, john)] == [200, 200, 200]
    answer = await browser.post("/auth/logout_everywhere", old_password=PASSWORD)
    assert (answer.status_code, answer.location) == (303, "/")
    assert "All your sessions have been signed out." in await text(await browser.get("/"))
    assert [await answers(each) for each in (browser, other, john)] == [401, 401, 200]


def cookie(browser: Browser) -> str:
    assert browser.client.cookie_jar is not None
    return "; ".join(f"{each.name}={each.value}" for each in browser.client.cookie_jar)


async def changed(browser: Browser, **more: str) -> Response:
    fields: dict[str, Any] = {"old_password": PASSWORD, "password": NEW_PASSWORD, "password2": NEW_PASSWORD, **more}
    return await browser.post("/auth/change_password", **fields)


@pytest.mark.parametrize("remembered", [True, False])
async def test_a_new_password_signs_out_everywhere_else(app: Quart, services: Services, remembered: bool) -> None:
    await services.accounts.register("susan", PASSWORD)
    browser = await sign_in(app, "susan", FIREFOX, **({"remember_me": "y"} if remembered else {}))
    other, before = await sign_in(app, "susan"), cookie(browser)
    answer = await changed(browser)
    assert (answer.status_code, answer.location) == (303, "/user/susan")
    (sent,) = [each for each in answer.headers.getlist("Set-Cookie") if each.startswith("microblog_session_")]
    assert ("Max-Age=7776000" in sent) is remembered
    assert "Your password has been changed." in await text(await browser.get("/user/susan"))
    thief = app.test_client(use_cookies=False)
    assert (await thief.get("/notifications", headers={"Cookie": before})).status_code == 401
    assert (await answers(browser), await answers(other)) == (200, 401)
    assert [words for words, _ in await listed(browser)] == ["Firefox on Linux"]
    await sign_in(app, "susan", password=NEW_PASSWORD)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"old_password": "not the password"}, "old_password", "not your current password"),
        ({"password2": "something else"}, "password2", "do not match"),
        ({"password": "iloveyou", "password2": "iloveyou"}, "password", "most common passwords"),
        ({"password": "brief", "password2": "brief"}, "password", "8 to 1024"),
        ({"old_password": ""}, "old_password", "not your current password"),
    ],
)
async def test_invalid_password_change_shows_field_error(
    join: Join, services: Services, change: dict[str, str], field: str, words: str
) -> None:
    susan = await join("susan")
    answer = await changed(susan, **change)
    page = await text(answer)
    assert answer.status_code == 422
    beside = re.search(rf'id="{field}-errors"[^>]*>\s*<div>([^<]*)', page)
    assert beside
    assert words in beside[1]
    for typed in (PASSWORD, NEW_PASSWORD, *change.values()):
        assert not typed or typed not in page
    assert await services.accounts.opens("susan", PASSWORD)
    assert await answers(susan) == 200


@pytest.mark.parametrize("path", ["/auth/change_password", "/auth/logout_everywhere"])
async def test_current_password_has_an_allowance_for_each_session(app: Quart, services: Services, path: str) -> None:
    await services.accounts.register("susan", PASSWORD)
    susan, other = await sign_in(app, "susan"), await sign_in(app, "susan")
    new: dict[str, Any] = {"password": NEW_PASSWORD, "password2": NEW_PASSWORD}
    statuses = [(await susan.post(path, old_password="not the password", **new)).status_code for _ in range(11)]
    assert statuses == [422] * 10 + [429]
    answer = await susan.post(path, old_password=PASSWORD, **new)
    assert answer.status_code == 429
    assert "Retry-After" in answer.headers
    assert (await susan.post("/auth/login", username="susan", password=PASSWORD)).status_code == 303
    assert (await other.post(path, old_password=PASSWORD, **new)).status_code == 303


async def test_expired_form_changes_no_password(join: Join, services: Services) -> None:
    susan = await join("susan")
    assert (await changed(susan, csrf_token="old")).status_code == 403
    assert await services.accounts.opens("susan", PASSWORD)


async def test_late_login_refusal_keeps_the_current_session(
    join: Join, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    susan = await join("susan")

    async def refused(*_: object, **__: object) -> str:
        raise Invalid("password", "It was changed just now.")

    monkeypatch.setattr(services.sessions, "start_session", refused)
    assert (await susan.post("/auth/login", username="susan", password=PASSWORD)).status_code == 422
    assert await answers(susan) == 200


async def test_session_pages_are_linked_from_own_profile_only(join: Join) -> None:
    susan, _ = await join("susan"), await join("john")
    own, other = await text(await susan.get("/user/Susan")), await text(await susan.get("/user/john"))
    for path in ("/auth/sessions", "/auth/change_password"):
        assert f'href="{path}"' in own
        assert f'href="{path}"' not in other


@pytest.mark.parametrize("path", ["/auth/sessions/end", "/auth/logout_everywhere", "/auth/change_password"])
async def test_session_pages_redirect_to_login(stranger: Browser, path: str) -> None:
    answer = await stranger.post(path)
    assert (answer.status_code, answer.location) == (303, "/auth/login")
    answer = await stranger.post(path, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.content_type) == (401, "application/problem+json")


async def test_disabled_account_is_reported_with_correct_password(stranger: Browser, services: Services) -> None:
    await services.accounts.register("susan", PASSWORD)
    await services.accounts.disable("susan")
    answer = await stranger.post("/auth/login", username="susan", password=PASSWORD)
    assert answer.status_code == 422
    assert "This account is disabled." in await text(answer)
    answer = await stranger.post("/auth/login", username="susan", password="not the password")
    assert "disabled" not in await text(answer)


async def test_many_sessions_have_pages(app: Quart, join: Join, services: Services) -> None:
    susan = await join("susan")
    user = await services.accounts.find("susan")
    assert user is not None
    for _ in range(30):
        await services.sessions.start_session(user, remembered=True, device="curl/8.5.0")
    assert len(await listed(susan)) == 1 + 25
    older = link(await text(await susan.get("/auth/sessions")), "next")
    page = await text(await susan.get(older))
    assert page.count("/end?session=") == 5
    assert "This session" not in page
    assert len(await listed(susan, link(page, "prev"))) == 1 + 25


async def test_user_agent_is_escaped(app: Quart, services: Services) -> None:
    await services.accounts.register("susan", PASSWORD)
    hostile = ["<b>/1.0", "%(browser)s/1", "Register/1.0", "x" * 5000]
    susan, *_ = [await sign_in(app, "susan", each) for each in hostile]
    page = await text(await susan.get("/auth/sessions", headers={"Accept-Language": "es"}))
    assert "<b>" not in page
    assert ">Register<" in page


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (PIXEL, "Chrome on Android"),
        ("Mozilla/5.0 (Android 14; Mobile; rv:128.0) Gecko/128.0 Firefox/128.0", "Firefox on Android"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/17.5 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "FxiOS/127.0 Mobile/15E148 Safari/605.1.15",
            "Firefox on iPad",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/17.5 Safari/605.1.15",
            "Safari on macOS",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/125.0.0.0 Safari/537.36 OPR/111.0.0.0",
            "Opera on Windows",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) "
            "SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
            "Samsung Internet on Android",
        ),
        (
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/126.0.0.0 Safari/537.36",
            "Chrome on ChromeOS",
        ),
        ("Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko", "Internet Explorer on Windows"),
        ("Mozilla/5.0 (X11; OpenBSD amd64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on BSD"),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Safari/605.1.15",
            "Safari on Linux",
        ),
        ("curl/8.5.0", "curl"),
        ("Wget/1.21.4", "Wget"),
        ("python-httpx/0.27.0", "python-httpx"),
        ("Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP2A)", "Dalvik on Android"),
        ("Mozilla/5.0 (compatible)", "Unknown device"),
        ("Mozilla/5.0 (Macintosh)", "macOS"),
        ("", "Unknown device"),
        ("-", "Unknown device"),
        ("x" * 200, "Unknown device"),
    ],
)
def test_device_is_described_by_browser_and_system(agent: str, words: str) -> None:
    assert devices.describe(agent, lambda sentence, **values: sentence % values) == words

"""Sentences that the next page shows, and their cookie."""

import json
from base64 import urlsafe_b64encode

from tests.web.conftest import Browser, Join, text

READ = "Marked as read."


def shown(page: str) -> int:
    return page.count(READ)


def cookie(browser: Browser) -> str:
    """The value of the cookie; "" without one."""
    found = [each.value for each in browser.client.cookie_jar or [] if "_flash" in each.name]
    return str(found[0]) if found else ""


async def test_flash_is_shown_once(join: Join) -> None:
    susan = await join("susan")
    answer = await susan.post("/messages/read")
    assert [each for each in answer.headers.getlist("Set-Cookie") if "_flash" in each and "HttpOnly" in each]
    assert shown(await text(await susan.get("/messages"))) == 1
    assert cookie(susan) == ""
    assert shown(await text(await susan.get("/messages"))) == 0


async def test_repeated_flash_does_not_fill_the_cookie(join: Join) -> None:
    susan = await join("susan")
    await susan.token()
    token = await susan.token()
    lengths = set()
    for _ in range(3):
        await susan.post("/messages/read", csrf_token=token)
        lengths.add(len(cookie(susan)))
    assert len(lengths) == 1
    assert shown(await text(await susan.get("/messages"))) == 1


async def test_forged_flash_is_not_shown(join: Join) -> None:
    susan = await join("susan")
    await susan.post("/messages/read")
    (stored,) = [each for each in susan.client.cookie_jar or [] if "_flash" in each.name]
    forged = urlsafe_b64encode(json.dumps([["danger", "forged"]]).encode()).decode()
    for value in (f"{forged}.{str(stored.value).partition('.')[2]}", forged, "é.é", "."):
        stored.value = value
        page = await susan.get("/messages")
        assert page.status_code == 200
        assert "forged" not in await text(page)


async def test_flash_of_another_session_is_not_shown(join: Join) -> None:
    susan = await join("susan")
    token = await susan.token()
    await susan.post("/messages/read", csrf_token=token)
    await susan.post("/auth/logout", csrf_token=token)
    page = await text(await susan.get("/"))
    assert shown(page) == 0
    assert "You have signed out." in page

"""The page of access tokens: create one, shown once; the list; revoke."""

import re
from typing import Any

import pytest
from quart import Quart, Response

from microblog_rt.services import Services
from tests.conftest import PASSWORD
from tests.web.conftest import Browser, Join, text

TOKEN = re.compile(r"mbrt_\d+_[\w-]{43}")
FIELDS = {"name": "backup", "read_notifications": "y", "expires": "90", "old_password": PASSWORD}


async def created(browser: Browser, **more: Any) -> Response:
    return await browser.post("/auth/tokens", **FIELDS | more)


async def status(app: Quart, token: str) -> int:
    """The status of a poll with the token."""
    answer = await app.test_client().get("/notifications", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


async def test_token_is_created_and_shown_once(app: Quart, join: Join) -> None:
    susan = await join("susan")
    assert "You have no access tokens." in await text(await susan.get("/auth/tokens"))
    page = await text(await created(susan))
    (token,) = TOKEN.findall(page)
    assert await status(app, token) == 200
    again = await text(await susan.get("/auth/tokens"))
    assert not TOKEN.search(again)
    assert "backup" in again
    assert "notifications:read" in again
    assert "/auth/tokens" in await text(await susan.get("/auth/sessions"))


async def test_token_is_revoked(app: Quart, join: Join) -> None:
    susan, john = await join("susan"), await join("john")
    (token,) = TOKEN.findall(await text(await created(susan)))
    page = await text(await susan.get("/auth/tokens"))
    (token_id,) = re.findall(r'name="token" value="(\w+)"', page)
    assert (await john.post("/auth/tokens/revoke", token=token_id)).status_code == 303
    assert (await susan.post("/auth/tokens/revoke", token=token_id, csrf_token="old")).status_code == 403
    assert await status(app, token) == 200
    assert (await susan.post("/auth/tokens/revoke", token=token_id)).location == "/auth/tokens"
    assert await status(app, token) == 401
    assert "The access token has been revoked." in await text(await susan.get("/auth/tokens"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"old_password": "wrong"}, "This is not your current password."),
        ({"name": " "}, "has 1 to 100 characters"),
        ({"read_notifications": None}, "Choose at least one permission."),
        ({"expires": "0"}, "Not a valid choice"),
    ],
)
async def test_invalid_form_creates_no_token(
    services: Services, join: Join, fields: dict[str, Any], sentence: str
) -> None:
    answer = await created(await join("susan"), **fields)
    assert answer.status_code == 422
    assert sentence in await text(answer) or "expires" in fields
    assert await services.tokens.of_user(1) == []


async def test_page_does_not_offer_to_publish(services: Services, join: Join) -> None:
    susan = await join("susan")
    assert "publish" not in await text(await susan.get("/auth/tokens"))
    await created(susan, **{"notifications:publish": "y", "publish_notifications": "y", "read_messages": "y"})
    (token,) = await services.tokens.of_user(1)
    assert token.scopes == "notifications:read messages:read"


async def test_stranger_is_sent_to_sign_in(stranger: Browser) -> None:
    assert (await stranger.get("/auth/tokens")).location == "/auth/login?next=/auth/tokens"
    assert (await stranger.post("/auth/tokens/revoke", token="x")).status_code == 303

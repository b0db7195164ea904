"""Behind https, as ``MICROBLOG_PUBLIC_URL`` says: Secure cookies, HSTS, exactly that Origin."""

from dataclasses import replace

import pytest
from quart import Quart

from microblog_rt.app import create_app
from microblog_rt.settings import Settings
from tests.web.conftest import Browser

HOST = {"Host": "microblog.example"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, public_url="https://microblog.example")


async def test_cookies_are_secure_and_bound_to_the_host(app: Quart) -> None:
    browser = Browser(app.test_client())
    answer = await browser.get("/auth/login", scheme="https", headers=HOST)
    set_cookie = answer.headers["Set-Cookie"]
    assert set_cookie.startswith("__Host-")
    for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert word in set_cookie
    assert "Domain" not in set_cookie
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_only_the_public_origin_may_post(app: Quart) -> None:
    browser = Browser(app.test_client())
    for origin in ("http://localhost", "http://microblog.example", "https://microblog.example:8443"):
        answer = await browser.post("/auth/login", csrf_token="x", headers={"Origin": origin} | HOST)
        assert answer.status_code == 403
        assert "form" not in (await answer.get_data(as_text=True)).split("<main")[1]


def test_the_application_can_be_made_twice(settings: Settings) -> None:
    assert create_app(settings) is not create_app(settings)

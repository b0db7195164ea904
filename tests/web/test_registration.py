"""Who may register: every visitor, those with an invitation, or none."""

import asyncio

import pytest
from quart import Quart

from microblog_rt.services import Services
from microblog_rt.settings import Settings
from tests.conftest import KEY, PASSWORD
from tests.web.conftest import Browser, field, text

PAGE = "/auth/register"
FIELDS = {"username": "susan", "password": PASSWORD, "password2": PASSWORD}
JSON = {"Accept": "application/json"}


@pytest.fixture
def settings(database: str, registration: str) -> Settings:
    return Settings(database_url=database, secret_key=KEY, registration=registration)


@pytest.mark.parametrize("registration", ["open"])
async def test_open_registration_asks_for_no_invitation(stranger: Browser) -> None:
    assert "Invitation code" not in await text(await stranger.get(PAGE))
    assert (await stranger.register("susan")).status_code == 303


@pytest.mark.parametrize("registration", ["closed"])
class TestClosed:
    async def test_pages_show_no_link(self, stranger: Browser) -> None:
        for path in ("/", "/auth/login"):
            assert PAGE not in await text(await stranger.get(path))

    async def test_registration_is_refused(self, stranger: Browser, services: Services) -> None:
        invitation = await services.registration.invite(60)
        for path in (PAGE, f"{PAGE}?invitation={invitation}"):
            answer = await stranger.get(path, headers={"Accept": "text/html"})
            assert answer.status_code == 403
            assert "Registration is closed on this site." in await text(answer)
        answer = await stranger.register("susan", invitation=invitation)
        assert answer.status_code == 403
        assert "Registration is closed on this site." in await text(answer)
        problem = await stranger.post(PAGE, headers=JSON, **FIELDS)
        assert problem.status_code == 403
        assert "Registration is closed" in (await problem.get_json())["detail"]
        assert await services.accounts.find("susan") is None

    async def test_operator_can_still_add_accounts(self, services: Services) -> None:
        assert (await services.accounts.register("susan", PASSWORD)).id

    async def test_known_users_can_still_sign_in(self, stranger: Browser, services: Services) -> None:
        await services.accounts.register("susan", PASSWORD)
        assert (await stranger.post("/auth/login", username="susan", password=PASSWORD)).status_code == 303


@pytest.mark.parametrize("registration", ["invite"])
class TestInvitations:
    async def test_link_fills_the_code_in(self, stranger: Browser, services: Services) -> None:
        code = await services.registration.invite(60)
        page = await text(await stranger.get(f"{PAGE}?invitation={code}"))
        assert field(page, "invitation") == code
        assert PAGE in await text(await stranger.get("/auth/login"))

    async def test_invitation_is_used_once(self, app: Quart, services: Services) -> None:
        code = await services.registration.invite(60)
        assert (await Browser(app.test_client()).register("susan", invitation=f" {code} ")).status_code == 303
        again = await Browser(app.test_client()).register("john", invitation=code)
        assert again.status_code == 422
        assert "This invitation is not valid" in await text(again)
        assert await services.accounts.find("john") is None

    async def test_invitation_used_twice_at_once_makes_one_account(self, app: Quart, services: Services) -> None:
        code = await services.registration.invite(60)
        browsers = [Browser(app.test_client()) for _ in range(3)]
        answers = await asyncio.gather(
            *(each.register(f"user{number}", invitation=code) for number, each in enumerate(browsers))
        )
        assert sorted(each.status_code for each in answers) == [303, 422, 422]
        found = [await services.accounts.find(f"user{number}") for number in range(3)]
        assert len([each for each in found if each is not None]) == 1

    @pytest.mark.parametrize("code", ["", " ", "x", "x" * 22, "é" * 10])
    async def test_without_invitation_nothing_is_told(self, code: str, stranger: Browser, services: Services) -> None:
        """Neither which names are taken nor what is wrong with a password."""
        await services.accounts.register("susan", PASSWORD)
        for name in ("susan", "john"):
            answer = await stranger.post(PAGE, username=name, password="short", password2="x", invitation=code)
            assert answer.status_code == 422
            page = await text(answer)
            assert ("needs an invitation" if not code.strip() else "This invitation is not valid") in page
            assert "taken" not in page
            assert "8 to 1024" not in page
        problem = await stranger.post(PAGE, headers=JSON, **FIELDS, invitation=code)
        assert (problem.status_code, (await problem.get_json())["code"]) == (422, "invalid")

    async def test_failed_registration_keeps_the_invitation(self, stranger: Browser, services: Services) -> None:
        await services.accounts.register("john", PASSWORD)
        code = await services.registration.invite(60)
        for name in ("john", "j\u043ehn", "admin"):  # taken, looks like it, reserved
            answer = await stranger.register(name, invitation=code)
            assert answer.status_code == 422
            assert field(await text(answer), "invitation") == code
        assert (await stranger.register("susan", invitation=code)).status_code == 303

    async def test_expired_invitation_is_refused(self, stranger: Browser, services: Services) -> None:
        code = await services.registration.invite(0)
        assert "This invitation is not valid" in await text(await stranger.register("susan", invitation=code))

"""Password guesses are bounded, and the guesses of others do not keep the owner of an account out."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

import pytest
from quart import Quart, Response
from sqlalchemy import select

from microblog_rt.accounts import Device
from microblog_rt.accounts.passwords import Match, Passwords
from microblog_rt.app import create_app
from microblog_rt.errors import Invalid, TooMany
from microblog_rt.models import Attempt, User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import accounts as stored
from tests.conftest import PASSWORD, PATIENT
from tests.web.conftest import HEADERS, Browser

WRONG = "not the password"
LAPTOP = "a laptop"


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(settings, PATIENT)
    async with app.test_app():
        yield app


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records each hash that a password is compared with, and saves the time of the comparison."""
    compared: list[str] = []

    async def match(_: Passwords, password_hash: str, password: str) -> Match:
        compared.append(password_hash)
        await asyncio.sleep(0.01)
        return Match.YES if password == PASSWORD else Match.NO

    monkeypatch.setattr(Passwords, "match", match)
    return compared


@pytest.fixture
async def two(settings: Settings) -> AsyncIterator[list[Services]]:
    """Two processes, with the time-outs that operators get for attempts that wait."""
    timeouts = replace(PATIENT, sign_in_wait=20)
    both = [assemble(settings, timeouts) for _ in range(2)]
    yield both
    for each in both:
        await each.close()


def known(services: Services, user: User, device_id: str = LAPTOP) -> Device:
    return Device(device_id, (services.accounts.device_mark(device_id, user),))


async def test_1000_parallel_guesses_reach_ten_hashes_and_the_owner_signs_in(
    two: list[Services], susan: User, checks: list[str]
) -> None:
    guesses = [two[n % 2].accounts.check_password("susan", WRONG, f"192.0.2.{n}") for n in range(1000)]
    attack = asyncio.gather(*guesses, return_exceptions=True)
    await asyncio.sleep(0)
    owners = [each.accounts.check_password("susan", PASSWORD, "198.51.100.1", known(each, susan)) for each in two]
    assert [user.id for user in await asyncio.gather(*owners)] == [susan.id] * 2
    results = await attack
    assert sum(isinstance(each, Invalid) for each in results) == 10
    assert sum(isinstance(each, TooMany) for each in results) == 990
    assert len(checks) == 10 + 2
    assert await two[0].accounts.check_password("susan", PASSWORD, "198.51.100.1", known(two[0], susan))


async def test_class_of_100_signs_in_from_one_address(two: list[Services], susan: User, checks: list[str]) -> None:
    """In the same second, although ten wrong passwords from there are too many."""
    names = [f"pupil{number}" for number in range(100)]
    for name in names:
        user = User(username=name, username_key=name, password_hash="unused")
        await two[0].storage.write(partial(stored.add, user=user))
    signing_in = [two[n % 2].accounts.check_password(name, PASSWORD, "192.0.2.1") for n, name in enumerate(names)]
    assert [user.username for user in await asyncio.gather(*signing_in)] == names
    assert await subjects(two[0], "sign_in:address") == []


async def test_ten_wrong_guesses_from_one_address_refuse_the_eleventh(services: Services, susan: User) -> None:
    for number in range(10):
        with pytest.raises(Invalid):
            await services.accounts.check_password(f"name{number}", WRONG, "192.0.2.1")
    with pytest.raises(TooMany):
        await services.accounts.check_password("susan", PASSWORD, "192.0.2.1")
    await services.accounts.check_password("susan", PASSWORD, "192.0.2.1", known(services, susan))
    await services.accounts.check_password("susan", PASSWORD, "192.0.2.2")


async def test_waiting_attempts_are_refused_together(settings: Settings, susan: User, checks: list[str]) -> None:
    """One of them asks the database; the others get its answer."""
    services = assemble(settings, replace(PATIENT, sign_in_wait=0.2))
    guesses = [services.accounts.check_password(f"name{n}", WRONG, "192.0.2.1") for n in range(200)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(each, Invalid) for each in results) == len(checks) == 10
    assert sum(isinstance(each, TooMany) for each in results) == 190
    await services.close()


async def test_known_device_has_a_limit_too(services: Services, susan: User, john: User) -> None:
    device = known(services, susan)
    for _ in range(10):
        with pytest.raises(Invalid):
            await services.accounts.check_password("susan", WRONG, "192.0.2.1", device)
    with pytest.raises(TooMany):
        await services.accounts.check_password("susan", PASSWORD, "192.0.2.1", device)
    await services.accounts.check_password("susan", PASSWORD, "192.0.2.1")
    await services.accounts.check_password("susan", PASSWORD, "192.0.2.1", known(services, susan, "a phone"))


async def test_mark_is_for_one_device_account_and_password(settings: Settings, susan: User, john: User) -> None:
    """Otherwise it would give a stranger, or a person who once knew the password, more guesses."""
    services = assemble(replace(settings, sign_in_limit=Limit(1, 300)), PATIENT)
    mark = known(services, susan).marks[0]
    with pytest.raises(Invalid):
        await services.accounts.check_password("susan", WRONG)
    for device in (Device("a phone", (mark,)), Device(LAPTOP, ("x" * 22,)), known(services, john)):
        with pytest.raises(TooMany):
            await services.accounts.check_password("susan", PASSWORD, "", device)
    await services.accounts.check_password("susan", PASSWORD, "", Device(LAPTOP, ("x" * 22, mark)))
    await services.accounts.set_password("susan", "another password")
    with pytest.raises(TooMany):
        await services.accounts.check_password("susan", "another password", "", Device(LAPTOP, (mark,)))
    await services.close()


async def test_mark_of_a_former_key_is_known(settings: Settings, susan: User) -> None:
    new = replace(settings, secret_key=f"{'new' * 10},{settings.secret_key}", sign_in_limit=Limit(1, 300))
    before, after = assemble(settings, PATIENT), assemble(new, PATIENT)
    device = known(before, susan)
    with pytest.raises(Invalid):
        await after.accounts.check_password("susan", WRONG)
    await after.accounts.check_password("susan", PASSWORD, "", device)
    assert known(after, susan) != device
    for each in (before, after):
        await each.close()


async def test_global_limit_delays_and_refuses_no_sign_in(settings: Settings, susan: User) -> None:
    timeouts = replace(PATIENT, sign_in_delay=0.5)
    services = assemble(replace(settings, sign_in_global_limit=Limit(3, 300)), timeouts)
    clock = asyncio.get_running_loop().time

    async def takes(device: Device) -> float:
        began = clock()
        await services.accounts.check_password("susan", PASSWORD, "198.51.100.1", device)
        return clock() - began

    for number in range(3):
        with pytest.raises(Invalid):
            await services.accounts.check_password(f"name{number}", WRONG, f"192.0.2.{number}")
    assert await takes(Device()) >= timeouts.sign_in_delay
    async with services.storage.reading() as reading:
        assert len((await reading.scalars(select(Attempt.subject).where(Attempt.subject == "sign_in"))).all()) == 3
    real, delays = asyncio.sleep, []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)
        await real(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        await takes(known(services, susan))
    assert timeouts.sign_in_delay not in delays
    await services.close()


async def sign_in(browser: Browser, name: str, password: str, address: str = "192.0.2.1") -> Response:
    form = {"username": name, "password": password, "csrf_token": await browser.token()}
    return await browser.client.post("/auth/login", form=form, headers=HEADERS, scope_base={"client": [address, 1]})


def cookies(answer: Response, name: str) -> list[str]:
    return [each for each in answer.headers.getlist("Set-Cookie") if each.startswith(f"{name}=")]


async def test_browser_of_the_owner_signs_in_during_an_attack(app: Quart, services: Services) -> None:
    await services.accounts.register("susan", PASSWORD)
    owner, stranger = Browser(app.test_client()), Browser(app.test_client())
    answer = await sign_in(owner, "susan", PASSWORD)
    (cookie,) = cookies(answer, app.config["DEVICE_COOKIE_NAME"])
    assert "HttpOnly" in cookie
    assert "Max-Age=31536000" in cookie
    await owner.post("/auth/logout")
    statuses = [(await sign_in(stranger, "susan", WRONG, f"192.0.2.{n}")).status_code for n in range(11)]
    assert statuses == [422] * 9 + [429] * 2  # the owner's first sign-in counted
    assert (await sign_in(owner, "susan", PASSWORD)).status_code == 303


async def test_browser_stays_known_after_its_password_change(app: Quart, services: Services) -> None:
    await services.accounts.register("susan", PASSWORD)
    owner, stranger = Browser(app.test_client()), Browser(app.test_client())
    await sign_in(owner, "susan", PASSWORD)
    new = "a new password"
    answer = await owner.post("/auth/change_password", old_password=PASSWORD, password=new, password2=new)
    assert answer.status_code == 303
    await owner.post("/auth/logout")
    for number in range(10):
        await sign_in(stranger, "susan", WRONG, f"192.0.2.{number}")
    assert (await sign_in(owner, "susan", "a new password")).status_code == 303


async def test_shared_browser_is_known_to_five_accounts(app: Quart, services: Services) -> None:
    browser = Browser(app.test_client())
    for number in range(6):
        await services.accounts.register(f"name{number}", PASSWORD)
        answer = await sign_in(browser, f"name{number}", PASSWORD)
        await browser.post("/auth/logout")
    (cookie,) = cookies(answer, app.config["DEVICE_COOKIE_NAME"])
    assert cookie.partition(";")[0].count(".") == 4


@pytest.mark.parametrize(
    "sent", ["", "x", "x" * 22, "." * 4000, "\N{SNOWMAN}", f"{'x' * 22}.{'x' * 22}", "x" * 22 + "."]
)
async def test_false_device_cookie_is_ignored(app: Quart, services: Services, sent: str) -> None:
    await services.accounts.register("susan", PASSWORD)
    browser = Browser(app.test_client())
    await browser.token()
    browser.client.set_cookie("localhost", app.config["DEVICE_COOKIE_NAME"], sent)
    assert (await sign_in(browser, "susan", PASSWORD)).status_code == 303
    assert await subjects(services, "sign_in:device") == []


async def subjects(services: Services, kind: str) -> Sequence[str]:
    async with services.storage.reading() as reading:
        return (await reading.scalars(select(Attempt.subject).where(Attempt.subject.startswith(kind)))).all()

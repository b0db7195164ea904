"""Passwords that are easy to guess, in any spelling, and long input. See also: ``tests/test_accounts.py``."""

import asyncio
import time
from dataclasses import replace

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from microblog_rt.accounts import strength
from microblog_rt.accounts.passwords import Passwords
from microblog_rt.accounts.rules import password_faults
from microblog_rt.errors import Invalid, TooMany
from microblog_rt.models import User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import accounts as stored
from tests.clients import signed_in
from tests.conftest import PASSWORD, PATIENT

REFUSED = {
    "password1": "password_too_common",
    "ILoveYou": "password_too_common",
    "87654321": "password_too_common",
    "aaaaaaaa": "password_too_simple",
    "        ": "password_too_simple",
    "x" * 1024: "password_too_simple",
    "Susan.Smith": "password_personal",
    "susan123": "password_personal",
    "smith2024": "password_personal",
    "example.org": "password_personal",
    "microblog1": "password_personal",
    "chat.example.net": "password_personal",
    "ｐａｓｓｗｏｒｄ": "password_too_common",
}


@pytest.mark.parametrize("password", REFUSED, ids=lambda password: password[:16])
async def test_weak_password_is_refused_wherever_one_is_set(settings: Settings, password: str) -> None:
    services = assemble(replace(settings, public_url="https://chat.example.net"), PATIENT)
    name, email = "Susan.Smith", "susan@example.org"
    with pytest.raises(Invalid, match=REFUSED[password]):
        await services.accounts.register(name, password, email)
    user = await services.accounts.register(name, PASSWORD, email)
    visit = await services.sessions.visit(await signed_in(services, user))
    assert visit is not None
    for setting in (
        services.accounts.set_password("SUSAN.SMITH", password),
        services.accounts.change_password(visit, PASSWORD, password),
    ):
        with pytest.raises(Invalid, match=REFUSED[password]) as refused:
            await setting
        assert refused.value.field == "password"
    assert await services.accounts.opens(name, PASSWORD)
    await services.close()


@pytest.mark.parametrize("password", ["a susan in the woods", "пароль и ключ", "Kq7!vR2x", "correct horse" * 70])
async def test_password_that_is_hard_to_guess_is_accepted(services: Services, password: str) -> None:
    await services.accounts.register("susan.smith", password)
    assert await services.accounts.opens("susan.smith", password)


async def test_the_most_common_passwords_are_refused() -> None:
    common = [each for each in FREQUENCY_LISTS["passwords"] if len(each) >= 8][:3000]
    assert len(common) == 3000
    assert [each for each in common if not await password_faults(each.title())] == []


ANY_TEXT = st.text(max_size=60) | st.text("4@8({[<3691!|10$5+7%2abc", min_size=8, max_size=60)


@given(ANY_TEXT, ANY_TEXT)
async def test_any_text_can_be_judged_as_a_password(password: str, name: str) -> None:
    assert len(await password_faults(password, name)) <= 1


def test_estimator_gets_a_bounded_beginning() -> None:
    """It would take a second for 32 such characters, which could stand for letters in 2,000 ways."""
    many_spellings = "4@8({[<3691!|10$5+7%2" * 20
    assert 8 <= len(strength._judged(many_spellings)) <= 16
    assert len(strength._judged("a long sentence of ordinary words " * 20)) == 40


async def test_one_address_cannot_fill_the_line_of_the_estimator(services: Services) -> None:

    async def judge(address: str) -> str:
        try:
            return str(await services.accounts.faults("susan", "1234567890" * 4, None, address))
        except TooMany:
            return "too many"

    async with asyncio.TaskGroup() as group:
        flood = [group.create_task(judge("192.0.2.1")) for _ in range(300)]
        await asyncio.sleep(0)
        others = [group.create_task(judge(f"192.0.2.{number}")) for number in range(2, 4)]
    assert [each.result() for each in flood].count("too many") == 300 - strength.WAITING_OF_ADDRESS
    assert "too many" not in [each.result() for each in others]
    assert await judge("192.0.2.1") != "too many"


async def test_two_sign_ins_at_once_replace_an_old_hash(services: Services, susan: User) -> None:
    await services.storage.write(lambda tx: stored.set_password(tx, susan.id, PasswordHasher().hash(TYPED)))
    users = await asyncio.gather(*(services.accounts.check_password("susan", TYPED) for _ in range(4)))
    for user in users:
        await services.sessions.start_session(user, remembered=False)


TYPED = "ﬁne o\N{COMBINING DIAERESIS}sterreich"
OTHER_KEYBOARD = "fine \N{LATIN SMALL LETTER O WITH DIAERESIS}sterreich"


async def test_password_is_the_same_from_every_keyboard(services: Services) -> None:
    await services.accounts.register("susan", TYPED)
    for each in (TYPED, OTHER_KEYBOARD):
        assert (await services.accounts.check_password("susan", each)).username == "susan"


async def test_hash_of_an_earlier_release_opens_and_is_replaced(services: Services, susan: User) -> None:
    """It is of the password as it was typed."""
    earlier = PasswordHasher().hash(TYPED)
    await services.storage.write(lambda tx: stored.set_password(tx, susan.id, earlier))
    user = await services.accounts.check_password("susan", TYPED)
    await services.sessions.start_session(user, remembered=False)
    known = await services.accounts.known("susan")
    assert known.password_hash != earlier
    assert await services.accounts.opens("susan", OTHER_KEYBOARD)
    assert (await services.accounts.known("susan")).password_hash == known.password_hash


async def test_hash_is_not_replaced_after_a_password_change(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await services.storage.write(lambda tx: stored.set_password(tx, susan.id, PasswordHasher().hash(TYPED)))
    real = Passwords.hash

    async def hashed(self: Passwords, password: str) -> str:
        changed = await real(self, "another password")
        await services.storage.write(lambda tx: stored.set_password(tx, susan.id, changed))
        return await real(self, password)

    with monkeypatch.context() as patch:
        patch.setattr(Passwords, "hash", hashed)
        user = await services.accounts.check_password("susan", TYPED)
    with pytest.raises(Invalid):
        await services.sessions.start_session(user, remembered=False)
    assert await services.accounts.opens("susan", "another password")


@pytest.mark.parametrize("long", ["x" * 100_000, "\N{COMBINING COMMA ABOVE RIGHT}\N{COMBINING GRAVE ACCENT}" * 50_000])
async def test_long_input_to_the_sign_in_is_refused_at_once(services: Services, susan: User, long: str) -> None:
    """Python's normalization takes quadratic time for such marks: seconds for 64 KiB."""
    began = time.process_time()
    for name, password in (("susan", long), (long, PASSWORD)):
        with pytest.raises(Invalid, match="wrong_password"):
            await services.accounts.check_password(name, password)
    assert len(await services.accounts.faults(long, long, long)) == 3
    assert time.process_time() - began < 2

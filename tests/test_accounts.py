"""Accounts: passwords, sessions. See also: ``test_names.py``."""

import pytest
from sqlalchemy import select

from microblog_rt.accounts import Reader, token_hash
from microblog_rt.errors import Invalid, NotFound
from microblog_rt.models import Mailbox, Session, User
from microblog_rt.services import Services
from microblog_rt.storage import sql_time
from tests.clients import signed_in
from tests.conftest import PASSWORD


async def test_email_address_is_stored_stripped(services: Services) -> None:
    user = await services.accounts.register("susan", PASSWORD, " a@example.org ")
    assert (user.username, user.email) == ("susan", "a@example.org")


@pytest.mark.parametrize(
    ("field", "email", "password"),
    [
        ("password", "", "short"),
        ("password", "", "x" * 1025),
        ("email", "no address", PASSWORD),
        ("email", "a@b." + "c" * 260, PASSWORD),
    ],
)
async def test_registration_error_names_the_field(services: Services, field: str, email: str, password: str) -> None:
    with pytest.raises(Invalid) as refused:
        await services.accounts.register("susan", password, email)
    assert refused.value.field == field


async def test_new_user_has_a_mailbox(services: Services, susan: User) -> None:
    async with services.storage.reading() as reading:
        mailbox = (await reading.execute(select(Mailbox))).scalar_one()
    assert (mailbox.user_id, mailbox.unread_message_count) == (susan.id, 0)
    assert mailbox.clock > 0


async def test_correct_password_is_accepted(services: Services, susan: User) -> None:
    assert (await services.accounts.check_password("Susan", PASSWORD)).id == susan.id


@pytest.mark.parametrize(("name", "word"), [("susan", "wrong password"), ("nobody", PASSWORD), ("susan", "")])
async def test_unknown_user_and_wrong_password_give_the_same_error(
    services: Services, susan: User, name: str, word: str
) -> None:
    with pytest.raises(Invalid, match="wrong_password"):
        await services.accounts.check_password(name, word)


async def test_passwords_and_tokens_are_stored_as_hashes(services: Services, susan: User) -> None:
    token = await services.sessions.start_session(susan, remembered=False)
    async with services.storage.reading() as reading:
        session = (await reading.execute(select(Session))).scalar_one()
    assert session.token_hash == token_hash(token) != token
    assert susan.password_hash.startswith("$argon2id$")


async def test_ending_a_session_keeps_the_others(services: Services, susan: User) -> None:
    one, two = await signed_in(services, susan), await signed_in(services, susan)
    await services.sessions.end_session(one)
    assert await services.sessions.visit(one) is None
    assert await services.sessions.visit(two) is not None


@pytest.mark.sqlite
async def test_expired_session_is_not_valid(services: Services, susan: User, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(susan.id, token_hash(await services.sessions.start_session(susan, remembered=False)))
    assert await services.sessions.visit(reader) is not None
    later = sql_time.now() + 13 * 3_600_000_000
    monkeypatch.setattr(sql_time, "now", lambda: later)
    assert await services.sessions.visit(reader) is None


@pytest.mark.sqlite
async def test_new_session_deletes_expired_ones(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await services.sessions.start_session(susan, remembered=False)
    later = sql_time.now() + 13 * 3_600_000_000
    monkeypatch.setattr(sql_time, "now", lambda: later)
    await services.sessions.start_session(susan, remembered=False)
    async with services.storage.reading() as reading:
        assert len((await reading.execute(select(Session))).all()) == 1


async def test_sign_in_during_a_password_change_starts_no_session(services: Services, susan: User) -> None:
    """The old password was right when checked; the new session would start after all others had ended."""
    checked = await services.accounts.check_password("susan", PASSWORD)
    await services.accounts.set_password("susan", "another password")
    with pytest.raises(Invalid):
        await services.sessions.start_session(checked, remembered=True)


async def test_new_password_replaces_the_old_and_ends_sessions(services: Services, susan: User) -> None:
    reader = await signed_in(services, susan)
    await services.accounts.set_password("susan", "another password")
    assert await services.sessions.visit(reader) is None
    await services.accounts.check_password("susan", "another password")
    with pytest.raises(Invalid):
        await services.accounts.check_password("susan", PASSWORD)


async def test_set_password_of_unknown_user_is_not_found(services: Services) -> None:
    with pytest.raises(NotFound):
        await services.accounts.set_password("nobody", PASSWORD)

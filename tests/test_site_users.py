"""Users of another site: their account at the first request, what their signed tokens read, and how those end."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from microblog_rt import jwts
from microblog_rt.accounts import Reader
from microblog_rt.errors import (
    Invalid,
    NotFound,
    ScopeMissing,
    SubjectInvalid,
    SubjectTaken,
    SubjectUnknown,
    TokenEnded,
)
from microblog_rt.feed import Follower
from microblog_rt.models import User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import notifications as notification_rows
from tests.clients import DEADLINE, Client, send, signed_in
from tests.conftest import PASSWORD, PATIENT
from tests.site_tokens import AUDIENCE, SECRET, signed


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, jwt_key=jwts.parse(SECRET), jwt_audience=AUDIENCE)


@pytest.fixture
async def other(settings: Settings) -> AsyncIterator[Services]:
    """Another process on the same database."""
    services = assemble(settings, PATIENT)
    yield services
    await services.feed.close()
    await services.storage.close()


async def reader(services: Services, name: str = "visitor", **claims: Any) -> Reader:
    """The reader of a new token, as a transport gets it."""
    text = signed(name, **claims)
    try:
        return services.site_users.reader(text)
    except SubjectUnknown as unknown:
        await services.site_users.ensure_account(unknown.subject)
    return services.site_users.reader(text)


async def found(services: Services, name: str = "visitor") -> User:
    return await services.accounts.known(name)


async def users(services: Services) -> int:
    async with services.storage.reading() as reading:
        return int((await reading.execute(select(func.count()).select_from(User))).scalar_one())


async def test_parallel_first_requests_make_one_account(services: Services, other: Services) -> None:
    both = [services, other] * 25
    readers = await asyncio.gather(*(reader(each, jti=str(n)) for n, each in enumerate(both)))
    assert len({each.token_hash for each in readers}) == 50
    assert len({each.user_id for each in readers}) == 1
    assert await users(services) == 1
    assert services.site_users._adding == {}


async def test_first_request_costs_one_lookup(services: Services) -> None:
    await reader(services)
    assert (await reader(services, jti="another")).user_id == (await found(services)).id
    services.site_users.reader(signed())  # without SubjectUnknown


async def test_site_user_has_no_password(services: Services) -> None:
    await reader(services)
    for password in ("", "x", PASSWORD):
        with pytest.raises(Invalid, match="wrong_password"):
            await services.accounts.check_password("visitor", password)


async def test_own_account_is_not_taken_over(services: Services, susan: User) -> None:
    await send(services, susan)
    for name in ("susan", "Susan"):
        with pytest.raises(SubjectTaken) as refused:
            await reader(services, name)
        assert refused.value.code == "subject_taken"
    # Not even by a reader that a lookup would never make: the read checks it.
    forged = (await reader(services))._replace(user_id=susan.id)
    assert forged.jwt is not None
    for each in (forged, forged._replace(jwt=forged.jwt._replace(subject="susan"))):
        with pytest.raises(TokenEnded):
            await services.feed.page(each, 0)
        assert await services.tokens.visit(each) is None


async def test_name_in_another_case_is_another_user_who_is_refused(services: Services) -> None:
    """A site may have users Bob and bob; they do not share a mailbox."""
    await reader(services, "Bob")
    with pytest.raises(SubjectTaken):
        await reader(services, "bob")


@pytest.mark.sqlite
async def test_subject_that_cannot_be_a_name_is_refused(services: Services) -> None:
    for name in ("", "a", "x" * 65, "a b", "admin", "auth", "user@example.org", "\ufb01t", "a\0b", "\ud800x"):
        with pytest.raises(SubjectInvalid) as refused:
            await reader(services, name)
        assert refused.value.code == "subject_invalid"
    assert await users(services) == 0


async def test_name_that_looks_like_another_is_refused(services: Services, susan: User) -> None:
    with pytest.raises(SubjectInvalid, match="username_similar"):
        await reader(services, "5usan".replace("5", "\u0455"))


async def test_signed_token_reads_as_a_session_does(services: Services, susan: User) -> None:
    visitor = await reader(services)
    await send(services, await found(services))
    await send(services, susan)
    others = [await reader(services, "guest"), await signed_in(services, susan), await reader(services, jti="2")]
    pages = await asyncio.gather(*(services.feed.page(each, 0) for each in (visitor, *others)))
    assert [[each.data for each in page] for page in pages] == [[1], [], [1], [1]]
    assert [len(await services.feed.page(visitor, 0, [name])) for name in ("unread_message_count", "other")] == [1, 0]
    assert services.tokens._noted == {}


async def test_scope_is_that_of_the_token(services: Services) -> None:
    with pytest.raises(ScopeMissing):
        await services.feed.page(await reader(services, scope="messages:read"), 0)
    visit = await services.tokens.visit(await reader(services, scope="messages:send"))
    assert visit is not None
    assert (visit.username, visit.scopes) == ("visitor", "messages:send")


@pytest.mark.parametrize("by", ["revocation", "disable", "password"])
async def test_revoked_token_reads_nothing_more(services: Services, other: Services, by: str) -> None:
    """Another process revokes it, whose signal is lost: the sweep finds it, and polls and batches are refused."""
    old = await reader(services)
    client = Client(services, old)
    await client.connect()
    assert [await services.feed.page(old, 0) for _ in range(3)] == [[], [], []]
    if by == "revocation":
        assert await other.site_users.end_all("visitor") == "visitor"
    elif by == "disable":
        await other.accounts.disable("visitor")
    else:
        await other.accounts.set_password("visitor", "a long new password")
    await services.feed.sweep_once()
    assert isinstance(await client.refused(), TokenEnded)
    others = [await reader(services, "guest"), old]
    pages = await asyncio.gather(*(services.feed.page(each, 0) for each in others), return_exceptions=True)
    assert pages[0] == []
    assert isinstance(pages[1], TokenEnded)
    assert await services.tokens.visit(old) is None
    newer = await reader(services, iat=time.time() + 1)
    if by == "disable":
        with pytest.raises(TokenEnded):
            await services.feed.page(newer, 0)
        await other.accounts.enable("visitor")
    assert await services.feed.page(newer, 0) == []
    with pytest.raises(TokenEnded):
        await services.feed.page(old, 0)


async def test_revocation_applies_before_the_first_request(services: Services, settings: Settings) -> None:
    text = signed("unseen")
    await services.site_users.end_all("unseen")
    with pytest.raises(TokenEnded):
        await services.feed.page(services.site_users.reader(text), 0)
    with pytest.raises(NotFound):
        await services.site_users.end_all("not a name")


async def test_id_of_another_user_after_a_restore_reads_nothing(services: Services) -> None:
    old = await reader(services)
    await services.storage.write(
        lambda tx: tx.execute(update(User).where(User.id == old.user_id).values(username="else", username_key="else"))
    )
    with pytest.raises(TokenEnded):
        await services.feed.page(old, 0)


@pytest.mark.parametrize("by", ["feed", "visit"])
async def test_user_is_looked_up_again_after_a_restore(services: Services, by: str) -> None:
    """The backup has another user of that id, and none of that name, who then gets an account."""
    old = await reader(services)
    assert services.site_users._ids == {"visitor": old.user_id}
    await services.storage.write(
        lambda tx: tx.execute(update(User).where(User.id == old.user_id).values(username="else", username_key="else"))
    )
    if by == "feed":
        with pytest.raises(TokenEnded):
            await services.feed.page(old, 0)
    else:
        assert await services.tokens.visit(old) is None
    new = await reader(services, jti="2")
    assert new.user_id == (await found(services)).id != old.user_id
    assert await services.feed.page(new, 0) == []


async def test_expiry_ends_a_stream_unless_a_fresh_token_arrives(services: Services) -> None:
    soon = time.time() + 1
    clients = [Client(services, await reader(services, exp=soon, jti=str(n))) for n in range(2)]
    await clients[0].connect()
    follower = Follower(services.feed.reads, clients[1].reader, 0, ())
    pages = services.feed.pages(follower, 0.2)
    assert await anext(pages) == []
    fresh = services.site_users.renewed(follower.reader, signed(jti="fresh"))
    assert fresh is not None
    follower.renew(fresh)
    assert isinstance(await clients[0].refused(), TokenEnded)
    assert time.time() >= soon
    assert await anext(pages) == []
    await send(services, await found(services))
    async with asyncio.timeout(DEADLINE):
        while not (page := await anext(pages)):
            pass
    assert page[0].data == 1
    follower.renew(await reader(services, exp=time.time() + 0.3))  # an earlier end is noticed
    with pytest.raises(TokenEnded):
        async with asyncio.timeout(DEADLINE):
            while True:
                await anext(pages)


async def test_token_replaced_during_its_last_read_continues(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read began with the old token, which is revoked; the answer to that read must not end the stream."""
    old = await reader(services)
    follower = Follower(services.feed.reads, old, 0, ())
    pages = services.feed.pages(follower, 3600)
    assert await anext(pages) == []
    reading, go, since = asyncio.Event(), asyncio.Event(), notification_rows.since

    async def held(*asked: Any) -> Any:
        answer = await since(*asked)
        if not go.is_set():
            reading.set()
            await go.wait()
        return answer

    monkeypatch.setattr(notification_rows, "since", held)
    following = asyncio.create_task(anext(pages))
    await services.site_users.end_all("visitor")
    await reading.wait()
    follower.renew(await reader(services, iat=time.time() + 1))
    go.set()
    await send(services, await found(services))
    async with asyncio.timeout(DEADLINE):
        assert [each.data for each in await following] == [1]
    await pages.aclose()


async def test_renewal_needs_the_same_user(services: Services, susan: User) -> None:
    visitor, guest = await reader(services), await reader(services, "guest")
    assert services.site_users.renewed(visitor, signed("guest")) is None
    assert services.site_users.renewed(visitor, f"mbrt_{guest.user_id}_{'x' * 43}") is None
    services.site_users._ids.clear()
    assert services.site_users.renewed(visitor, signed("guest")) is None
    again = services.site_users.renewed(visitor, signed("visitor", jti="again"))
    assert again is not None
    assert again.user_id == visitor.user_id
    session = await signed_in(services, susan)
    assert services.site_users.renewed(session, signed("unknown")) is None

"""The end of sessions: expired, one by one, all at once, by a new password, with the account."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, update

from microblog_rt.accounts import Accounts, Reader, session_name, token_hash
from microblog_rt.accounts.passwords import Passwords
from microblog_rt.errors import Invalid, NotFound, SignedOut, TooMany
from microblog_rt.models import Session, User
from microblog_rt.protocol import MICROSECONDS, Notification
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import accounts as rows
from microblog_rt.storage import notifications as stored_notifications
from microblog_rt.timeouts import Timeouts
from tests import conftest
from tests.clients import DEADLINE, Client, signed_in
from tests.conftest import PASSWORD

NEW_PASSWORD = "a new password"


async def change(services: Services, reader: Reader, old: str = PASSWORD, new: str = NEW_PASSWORD) -> Reader:
    """Change the reader's password and return the reader of the new session."""
    visit = await services.sessions.visit(reader)
    assert visit is not None
    return Reader(reader.user_id, token_hash(await services.accounts.change_password(visit, old, new)))


async def end_one(services: Services, reader: Reader) -> None:
    await services.sessions.end_session(reader)


async def end_by_name(services: Services, reader: Reader) -> None:
    await services.sessions.end_session_named(reader.user_id, session_name(reader.token_hash))


async def end_all(services: Services, reader: Reader) -> None:
    await services.sessions.end_sessions(reader.user_id)


async def change_password(services: Services, reader: Reader) -> None:
    await change(services, reader)


async def set_password(services: Services, _: Reader) -> None:
    await services.accounts.set_password("susan", NEW_PASSWORD)


async def disable(services: Services, _: Reader) -> None:
    await services.accounts.disable("susan")


Ending = Callable[[Services, Reader], Awaitable[None]]
OF_ONE: list[Ending] = [end_one, end_by_name]
OF_ALL: list[Ending] = [end_all, change_password, set_password, disable]


class Subscriptions:
    """A stream and a held poll for each of some sessions, all subscribed."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.streams: list[Client] = []
        self.held: list[asyncio.Task[list[Notification]]] = []

    async def listen(self, reader: Reader) -> tuple[Client, "asyncio.Task[list[Notification]]"]:
        stream = Client(self.services, reader)
        self.streams.append(stream)
        await stream.connect()
        self.held.append(asyncio.create_task(self.services.feed.hold(reader, 0, (), DEADLINE)))
        while len(self.subscribers()) < 2 * len(self.streams) or any(each.position < 0 for each in self.subscribers()):
            await asyncio.sleep(0)
        return stream, self.held[-1]

    def subscribers(self) -> list[Any]:
        return self.services.hub.subscribers()

    async def leave(self) -> None:
        for stream in self.streams:
            await stream.disconnect()
        for held in self.held:
            held.cancel()
        await asyncio.gather(*self.held, return_exceptions=True)


@pytest.fixture
async def subscribers(services: Services) -> AsyncIterator[Subscriptions]:
    subscribers = Subscriptions(services)
    yield subscribers
    await subscribers.leave()


@pytest.mark.parametrize("end", OF_ONE + OF_ALL)
async def test_ending_a_session_ends_its_streams_and_polls(
    services: Services, subscribers: Subscriptions, susan: User, john: User, end: Ending
) -> None:
    reader = await signed_in(services, susan)
    stream, held = await subscribers.listen(reader)
    johns = await signed_in(services, john)
    others, others_held = await subscribers.listen(johns)
    await end(services, reader)
    assert isinstance(await stream.refused(), SignedOut)
    with pytest.raises(SignedOut):
        await held
    with pytest.raises(SignedOut):
        await services.feed.page(reader, 0)
    await services.messages.send_message(john.id, john.id, "to another")
    await others.until(lambda: others.state)
    assert len(await others_held) == len(await services.feed.page(johns, 0)) == 1


@pytest.mark.parametrize("end", OF_ONE)
async def test_other_sessions_of_the_user_stay_open(
    services: Services, subscribers: Subscriptions, susan: User, end: Ending
) -> None:
    reader, other = await signed_in(services, susan), await signed_in(services, susan)
    stream, _ = await subscribers.listen(reader)
    others, others_held = await subscribers.listen(other)
    await end(services, reader)
    assert isinstance(await stream.refused(), SignedOut)
    await services.messages.send_message(susan.id, susan.id, "hello")
    await others.until(lambda: others.state)
    assert len(await others_held) == len(await services.feed.page(other, 0)) == 1
    assert stream.state == {}


@pytest.mark.parametrize("end", OF_ALL)
async def test_all_sessions_of_the_user_end(
    services: Services, subscribers: Subscriptions, susan: User, end: Ending
) -> None:
    reader, other = await signed_in(services, susan), await signed_in(services, susan)
    others, others_held = await subscribers.listen(other)
    await end(services, reader)
    assert isinstance(await others.refused(), SignedOut)
    with pytest.raises(SignedOut):
        await others_held
    assert await services.sessions.visit(other) is None


@pytest.mark.parametrize("read_first", [True, False])
@pytest.mark.parametrize("end", OF_ONE + OF_ALL)
async def test_stream_starting_while_its_session_ends_gets_nothing(
    services: Services, susan: User, end: Ending, read_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read of a subscribed stream happens before the session ends and returns after, or happens after."""
    reader = await signed_in(services, susan)
    reading, ended = asyncio.Event(), asyncio.Event()
    real = stored_notifications.since

    async def since(*values: Any) -> Any:
        page = await real(*values) if read_first else None
        reading.set()
        await ended.wait()
        return page if read_first else await real(*values)

    monkeypatch.setattr(stored_notifications, "since", since)
    stream = Client(services, reader)
    connecting = asyncio.create_task(stream.connect())
    async with asyncio.timeout(DEADLINE):
        await reading.wait()
    assert len(services.hub.subscribers()) == 1
    monkeypatch.setattr(stored_notifications, "since", real)
    await end(services, reader)
    await services.notifications.add_notification(susan.id, "x", "not for this session any more")
    ended.set()
    assert isinstance(await stream.refused(), SignedOut)
    await asyncio.gather(connecting, return_exceptions=True)
    assert stream.pages == [[]] * read_first
    await stream.disconnect()


# However slow the disk is, a request returns after its session's use was stored.
PATIENT = replace(conftest.PATIENT, session_use=DEADLINE)


@pytest.fixture
def timeouts() -> Timeouts:
    return PATIENT


@pytest.fixture
async def short(settings: Settings) -> AsyncIterator[Services]:
    """Services whose sessions last ten seconds without use, and a hundred in all."""
    services = assemble(replace(settings, session_idle=10, session_lifetime=100), PATIENT)
    yield services
    await services.close()


async def begun_ago(services: Services, user: User, seconds: float) -> Reader:
    reader = await signed_in(services, user)
    await move_back(services, reader, seconds, "created", "last_used", "expires")
    return reader


async def move_back(services: Services, reader: Reader, seconds: float, *columns: str) -> None:
    """Move those times of a session back."""
    earlier = {each: getattr(Session, each) - round(seconds * MICROSECONDS) for each in columns}
    change = update(Session).where(Session.token_hash == reader.token_hash).values(earlier)
    await services.storage.write(lambda tx: tx.execute(change))


async def row(services: Services, reader: Reader) -> Any:
    """The session's row."""
    async with services.storage.reading() as reading:
        statement = select(Session).where(Session.token_hash == reader.token_hash)
        return (await reading.execute(statement)).scalar_one()


async def test_stream_ends_when_its_session_is_idle_too_long(settings: Settings, susan: User) -> None:
    services = assemble(replace(settings, session_idle=1000), PATIENT)
    reader = await signed_in(services, susan)
    await move_back(services, reader, 998, "expires")
    stream = Client(services, reader)
    await stream.connect()
    assert isinstance(await stream.refused(), SignedOut)
    session = await row(services, reader)
    assert session.created == session.last_used
    await services.close()


async def test_polls_and_streams_are_no_use_of_a_session(short: Services, susan: User, john: User) -> None:
    """A person uses a session; a page that is left open does not keep it alive."""
    reader = await begun_ago(short, susan, 5)
    await short.messages.send_message(john.id, susan.id, "hello")
    stream = Client(short, reader)
    await stream.connect(heartbeat=0.05)
    await short.feed.page(reader, 0)
    await short.feed.hold(reader, 0, (), 30)
    await stream.until(lambda: len(stream.pages) > 3)
    session = await row(short, reader)
    assert session.last_used == session.created
    await stream.disconnect()


@pytest.mark.sqlite
async def test_use_extends_a_session_within_its_lifetime(settings: Settings, susan: User) -> None:
    services = assemble(replace(settings, session_idle=1000, session_lifetime=10), PATIENT)
    reader = await begun_ago(services, susan, 8)
    await services.sessions.note_use(reader, 0)
    session = await row(services, reader)
    assert session.last_used > session.created
    assert session.expires - session.created == 10 * MICROSECONDS
    await services.close()


@pytest.mark.parametrize(
    ("idle", "lifetime", "remembered", "lasts"),
    [
        (86400, 864000, True, 86400),
        (86400, 864000, False, 12 * 3600),
        (3600, 864000, False, 3600),
        (86400, 600, True, 600),
        (86400, 600, False, 600),
    ],
)
async def test_idle_lifetime_of_a_session(
    settings: Settings, susan: User, idle: int, lifetime: int, remembered: bool, lasts: int
) -> None:
    services = assemble(replace(settings, session_idle=idle, session_lifetime=lifetime), PATIENT)
    token = await services.sessions.start_session(susan, remembered=remembered)
    session = await row(services, Reader(susan.id, token_hash(token)))
    assert session.expires - session.created == lasts * MICROSECONDS
    await services.close()


@pytest.mark.parametrize(("seconds", "noted"), [(40, False), (50, True)])
async def test_use_is_stored_four_times_per_idle_time(
    settings: Settings, susan: User, seconds: float, noted: bool
) -> None:
    services = assemble(replace(settings, session_idle=200, session_lifetime=1000), PATIENT)
    reader = await begun_ago(services, susan, seconds)
    begun = (await row(services, reader)).last_used
    await services.sessions.note_use(reader, begun)
    assert ((await row(services, reader)).last_used > begun) is noted
    await services.close()


async def test_device_is_stored_short_and_printable(services: Services, susan: User) -> None:
    await services.sessions.start_session(susan, remembered=True, device="Fire\0fox\r\n\x1b[31m/\x851.0" + "x" * 300)
    async with services.storage.reading() as reading:
        device = (await reading.execute(select(Session.device))).scalar_one()
    assert device == ("Firefox[31m/1.0" + "x" * 300)[:200]


@pytest.mark.sqlite
async def test_pages_of_sessions_begin_next_to_a_session(services: Services, susan: User, john: User) -> None:
    own, oldest, older, new = [await begun_ago(services, susan, ago) for ago in (250, 300, 200, 100)]
    await begun_ago(services, susan, 15 * 86400)  # has expired
    await signed_in(services, john)
    first = await services.sessions.sessions(own, 2)
    last = await services.sessions.sessions(own, 2, before=first.rows[-1].created)
    back = await services.sessions.sessions(own, 2, after=last.rows[0].created)
    assert [each.token_hash for each in first.rows] == [new.token_hash, older.token_hash]
    assert [each.token_hash for each in last.rows] == [oldest.token_hash]
    assert [each.token_hash for each in back.rows] == [new.token_hash, older.token_hash]
    assert ((first.previous, first.next), (last.previous, last.next)) == ((False, True), (True, False))


@pytest.mark.parametrize("name", ["", "%", "_" * 16, "0" * 16, "NAME"])
async def test_unknown_session_name_ends_no_session(services: Services, susan: User, john: User, name: str) -> None:
    mine, others = await signed_in(services, susan), await signed_in(services, john)
    await services.sessions.end_session_named(susan.id, name)
    await services.sessions.end_session_named(susan.id, session_name(mine.token_hash)[:15])
    await services.sessions.end_session_named(susan.id, session_name(others.token_hash))
    assert await services.sessions.visit(mine) is not None
    assert await services.sessions.visit(others) is not None


async def test_password_change_replaces_all_sessions_with_one(services: Services, susan: User) -> None:
    other = await signed_in(services, susan)
    token = await services.sessions.start_session(susan, remembered=False, device="Firefox")
    reader = Reader(susan.id, token_hash(token))
    fresh = await change(services, reader)
    assert [await services.sessions.visit(each) for each in (reader, other)] == [None, None]
    session = await row(services, fresh)
    assert (session.remembered, session.device) == (False, "Firefox")
    await services.accounts.check_password("susan", NEW_PASSWORD)
    with pytest.raises(Invalid):
        await services.accounts.check_password("susan", PASSWORD)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("not the password", NEW_PASSWORD, "old_password"),
        (PASSWORD, "short", "password"),
        (PASSWORD, "Susan", "password"),
    ],
)
async def test_refused_password_change_changes_nothing(
    services: Services, susan: User, old: str, new: str, field: str
) -> None:
    reader = await signed_in(services, susan)
    with pytest.raises(Invalid) as refused:
        await change(services, reader, old, new)
    assert refused.value.field == field
    assert await services.sessions.visit(reader) is not None
    await services.accounts.check_password("susan", PASSWORD)


async def test_wrong_old_password_counts_for_its_session_alone(settings: Settings, susan: User) -> None:
    """Another session of a thief must not keep the owner from changing the password."""
    services = assemble(replace(settings, sign_in_limit=Limit(2, 300)), PATIENT)
    thief, owner = await signed_in(services, susan), await signed_in(services, susan)
    for _ in range(2):
        with pytest.raises(Invalid):
            await change(services, thief, "not the password")
    with pytest.raises(TooMany):
        await change(services, thief)
    assert await services.sessions.visit(thief) is not None
    await change(services, owner)
    await services.close()


async def test_only_one_of_two_concurrent_password_changes_succeeds(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both verified the old password before either writes."""
    readers = [await signed_in(services, susan) for _ in range(2)]
    both, real = asyncio.Barrier(2), Passwords.hash

    async def hashed(self: Passwords, password: str) -> str:
        await both.wait()
        return await real(self, password)

    monkeypatch.setattr(Passwords, "hash", hashed)
    racing = [change(services, reader, PASSWORD, f"new password {each}") for each, reader in enumerate(readers)]
    async with asyncio.timeout(DEADLINE):
        results = await asyncio.gather(*racing, return_exceptions=True)
    (refused,) = [each for each in results if isinstance(each, BaseException)]
    (fresh,) = [each for each in results if isinstance(each, Reader)]
    assert isinstance(refused, Invalid)
    assert refused.field == "old_password"
    assert await services.sessions.visit(fresh) is not None
    assert await services.accounts.opens("susan", f"new password {results.index(fresh)}")


@pytest.mark.parametrize("end", [end_one, end_all, disable])
async def test_session_ended_during_a_password_change_cannot_change_it(
    services: Services, susan: User, end: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a browser that was signed out everywhere could return with it."""
    reader, real = await signed_in(services, susan), Passwords.hash

    async def hashed(self: Passwords, password: str) -> str:
        await end(services, reader)
        return await real(self, password)

    monkeypatch.setattr(Passwords, "hash", hashed)
    with pytest.raises(SignedOut):
        await change(services, reader)
    await services.accounts.enable("susan")
    assert await services.accounts.opens("susan", PASSWORD)
    async with services.storage.reading() as reading:
        assert (await reading.execute(select(Session))).all() == []


async def test_disabled_account_is_revealed_only_with_its_password(services: Services, susan: User) -> None:
    for _ in range(2):  # it may be disabled again
        await services.accounts.disable("SUSAN")
    with pytest.raises(Invalid, match="account_disabled"):
        await services.accounts.check_password("susan", PASSWORD)
    with pytest.raises(Invalid, match="wrong_password"):
        await services.accounts.check_password("susan", "not the password")
    assert not await services.accounts.opens("susan", PASSWORD)
    for _ in range(2):
        await services.accounts.enable("Susan")
    user = await services.accounts.check_password("susan", PASSWORD)
    assert await services.sessions.visit(await signed_in(services, user)) is not None


async def test_sign_in_to_a_disabled_account_is_counted(settings: Settings, susan: User) -> None:
    services = assemble(replace(settings, sign_in_limit=Limit(1, 300)), PATIENT)
    await services.accounts.disable("susan")
    with pytest.raises(Invalid):
        await services.accounts.check_password("susan", PASSWORD)
    with pytest.raises(TooMany):
        await services.accounts.check_password("susan", PASSWORD)
    await services.close()


async def test_sign_in_during_disabling_starts_no_session(services: Services, susan: User) -> None:
    checked = await services.accounts.check_password("susan", PASSWORD)
    await services.accounts.disable("susan")
    with pytest.raises(Invalid, match="disabled"):
        await services.sessions.start_session(checked, remembered=True)


@pytest.mark.parametrize("verb", [Accounts.disable, Accounts.enable])
async def test_disable_or_enable_of_unknown_user_is_not_found(services: Services, verb: Any) -> None:
    with pytest.raises(NotFound):
        await verb(services.accounts, "nobody")


async def test_cleanup_deletes_only_expired_sessions(
    services: Services, susan: User, john: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "AT_ONCE", 1)
    for number, user in enumerate((susan, john)):
        await services.storage.write(
            partial(rows.add_session, user_id=user.id, token_hash=f"over{number}", remembered=True, lasts=0)
        )
    live = await signed_in(services, susan)
    await services.accounts.forget_expired()
    async with services.storage.reading() as reading:
        assert (await reading.execute(select(Session.token_hash))).scalars().all() == [live.token_hash]

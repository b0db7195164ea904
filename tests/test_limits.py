"""Rate limits on sign-in, registration and sending: exact, for concurrent attempts in several processes too."""

import asyncio
import contextlib
import hashlib
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from itertools import count
from math import ceil
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as st
from sqlalchemy import func, select

from microblog_rt.accounts.passwords import UNKNOWN_USERS_HASH, Match, Passwords
from microblog_rt.errors import Invalid, NotFound, TooMany
from microblog_rt.models import Attempt, Message, User
from microblog_rt.protocol import MICROSECONDS
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Limit, Settings
from microblog_rt.storage import Storage, Transaction, limits, sql_time
from tests.clients import signed_in
from tests.conftest import PASSWORD, PATIENT

Wired = Callable[..., Services]
HOUR = 3600


@pytest.fixture
async def wired(settings: Settings) -> AsyncIterator[Wired]:
    """A function that returns the services of another process on the same database, with changed settings."""
    everything: list[Services] = []

    def wired(**changes: Any) -> Services:
        everything.append(assemble(replace(settings, **changes), PATIENT))
        return everything[-1]

    yield wired
    for each in everything:
        await each.close()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records each hash that a password is compared with."""
    compared: list[str] = []
    real = Passwords.match

    async def match(self: Passwords, password_hash: str, password: str) -> Match:
        compared.append(password_hash)
        return await real(self, password_hash, password)

    monkeypatch.setattr(Passwords, "match", match)
    return compared


class Time:
    """A clock set by the test."""

    def __init__(self) -> None:
        self.began = self.now = sql_time.now()

    def at(self, seconds: float) -> None:
        self.now = self.began + round(seconds * MICROSECONDS)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(sql_time, "now", lambda: time.now)
    monkeypatch.setattr(limits, "monotonic", lambda: time.now / MICROSECONDS)
    return time


async def outcomes(work: Sequence[Awaitable[Any]]) -> tuple[int, int]:
    """The number of accepted and of refused attempts."""
    results = await asyncio.gather(*work, return_exceptions=True)
    refused = [each for each in results if isinstance(each, BaseException)]
    assert all(isinstance(each, TooMany) for each in refused), refused
    return len(results) - len(refused), len(refused)


async def counted(services: Services) -> int:
    async with services.storage.reading() as reading:
        return (await reading.execute(select(func.count()).select_from(Attempt))).scalar_one()


async def test_ten_of_200_concurrent_sign_ins_reach_the_hash(wired: Wired, susan: User, checks: list[str]) -> None:
    services = wired()
    assert await outcomes([services.accounts.check_password("susan", PASSWORD) for _ in range(200)]) == (10, 190)
    assert len(checks) == 10


async def test_two_processes_share_a_limit(wired: Wired, susan: User, checks: list[str]) -> None:
    processes = [wired(), wired()]
    racing = [processes[each % 2].accounts.check_password("SuSaN", PASSWORD, f"192.0.2.{each}") for each in range(200)]
    assert await outcomes(racing) == (10, 190)
    assert len(checks) == 10


async def test_unknown_username_is_limited_like_any_other(wired: Wired, checks: list[str]) -> None:
    services = wired(sign_in_limit=Limit(2, 300))
    for _ in range(2):
        with pytest.raises(Invalid, match="wrong_password"):
            await services.accounts.check_password("Nobody", PASSWORD)
    with pytest.raises(TooMany):
        await services.accounts.check_password("nobody", PASSWORD)
    assert checks == [UNKNOWN_USERS_HASH] * 2


async def test_unknown_username_costs_as_much_as_a_wrong_password(
    services: Services, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One comparison each, at the same cost."""
    assert extract_parameters(UNKNOWN_USERS_HASH) == extract_parameters(susan.password_hash)
    done: list[str] = []
    for deed in ("hash", "verify"):
        real = getattr(PasswordHasher, deed)

        def spy(*values: Any, deed: str = deed, real: Any = real) -> Any:
            done.append(deed)
            return real(*values)

        monkeypatch.setattr(PasswordHasher, deed, spy)
    for name in ("nobody", "susan"):
        with pytest.raises(Invalid):
            await services.accounts.check_password(name, "not the password")
        assert done == ["verify"], name
        done.clear()


async def test_correct_password_is_refused_over_the_limit(wired: Wired, susan: User) -> None:
    services = wired(sign_in_limit=Limit(1, 300))
    with pytest.raises(Invalid):
        await services.accounts.check_password("susan", "not the password")
    with pytest.raises(TooMany) as refused:
        await services.accounts.check_password("susan", PASSWORD)
    assert 290 <= (refused.value.retry_after or 0) <= 300


async def test_address_is_limited_across_usernames(wired: Wired, susan: User) -> None:
    services = wired(sign_in_limit=Limit(2, 300))
    for name in ("a1", "a2"):
        with pytest.raises(Invalid):
            await services.accounts.check_password(name, PASSWORD, "192.0.2.1")
    with pytest.raises(TooMany):
        await services.accounts.check_password("susan", PASSWORD, "192.0.2.1")
    await services.accounts.check_password("susan", PASSWORD, "192.0.2.2")
    await services.accounts.check_password("susan", PASSWORD)  # unknown address


async def test_refused_sign_in_is_not_counted(wired: Wired, susan: User) -> None:
    """Otherwise refused attempts could lock out another user."""
    change = {"sign_in_limit": Limit(1, 300)}
    services = wired(**change)
    with pytest.raises(Invalid):
        await services.accounts.check_password("a1", PASSWORD, "192.0.2.1")
    before = await counted(services)
    other = wired(**change)  # which has cached no refusal
    for each in (services, other, other):
        with pytest.raises(TooMany):
            await each.accounts.check_password("susan", PASSWORD, "192.0.2.1")
    assert await counted(services) == before


async def test_without_limits_no_attempt_is_stored(wired: Wired, susan: User) -> None:
    services = wired(sign_in_limit=None, sign_in_global_limit=None)
    await services.accounts.check_password("susan", PASSWORD, "192.0.2.1")
    assert await counted(services) == 0


async def test_repeated_refusals_do_not_query_the_database(
    wired: Wired, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = wired(sign_in_limit=Limit(1, 300))
    await services.accounts.check_password("susan", PASSWORD)
    with pytest.raises(TooMany):
        await services.accounts.check_password("susan", PASSWORD)

    def no_database(_: Storage) -> None:
        raise AssertionError("what is known to be refused needs no database")

    monkeypatch.setattr(Storage, "write", no_database)
    monkeypatch.setattr(Storage, "reading", no_database)
    with pytest.raises(TooMany):
        await services.accounts.check_password("susan", PASSWORD)


@pytest.mark.sqlite
async def test_window_slides_with_each_attempt(wired: Wired, susan: User, time: Time) -> None:
    """A fixed window would accept six attempts within a moment."""
    services = wired(sign_in_limit=Limit(3, 10))

    done: list[float] = []
    for seconds in (0, 4, 8, 8, 9.9, 10, 10, 13.9, 14, 14, 17.9, 18, 18):
        time.at(seconds)
        with contextlib.suppress(TooMany):
            await services.accounts.check_password("susan", PASSWORD)
            done.append(seconds)
    assert done == [0, 4, 8, 10, 14, 18]


@pytest.mark.sqlite
async def test_queued_attempt_is_counted_from_when_it_was_admitted(wired: Wired, susan: User, time: Time) -> None:
    """Otherwise as many attempts again would be accepted too soon after a queue."""
    services = wired()
    async with write_lock(services):
        waiting = [
            asyncio.create_task(services.accounts.check_password("susan", PASSWORD)),
            asyncio.create_task(services.messages.send_message(susan.id, susan.id, "hello")),
        ]
        while len(services.storage._writes) < len(waiting):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.at(100)
    await asyncio.gather(*waiting)
    async with services.storage.reading() as reading:
        expires = (await reading.execute(select(Attempt.expires))).scalars().all()
    assert sorted((each - time.began) // MICROSECONDS for each in expires) == [160, 400]


@pytest.mark.sqlite
async def test_refusal_carries_the_exact_retry_after(wired: Wired, susan: User, time: Time) -> None:
    services = wired(sign_in_limit=Limit(1, 300))
    await services.accounts.check_password("susan", PASSWORD)
    time.at(100.5)
    with pytest.raises(TooMany) as refused:
        await services.accounts.check_password("susan", PASSWORD)
    assert refused.value.retry_after == 200
    time.at(100.5 + 200)
    await services.accounts.check_password("susan", PASSWORD)


async def test_limits_store_no_names_or_addresses(services: Services) -> None:
    with pytest.raises(Invalid):
        await services.accounts.check_password("my password by mistake" * 20, PASSWORD, "192.0.2.1")
    async with services.storage.reading() as reading:
        subjects = (await reading.execute(select(Attempt.subject))).scalars().all()
    assert len(subjects) == 3
    for each in subjects:
        assert re.fullmatch(r"sign_in(:(account|address):[0-9a-f]{64})?", each)
        assert hashlib.sha256(b"192.0.2.1").hexdigest() not in each


async def test_password_check_by_an_operator_is_not_counted(wired: Wired, susan: User) -> None:
    services = wired(sign_in_limit=Limit(1, 300))
    for _ in range(3):
        assert await services.accounts.opens("susan", PASSWORD)
        assert not await services.accounts.opens("susan", "not the password")
    assert await counted(services) == 0


NUMBERS = count()
WINDOW = 10  # seconds
TIMES = st.integers(0, 4 * WINDOW * MICROSECONDS) | st.integers(0, 8).map(lambda n: n * WINDOW * MICROSECONDS // 2)


@pytest.mark.sqlite
@trials(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(times=st.lists(TIMES, max_size=30), in_order=st.booleans(), most=st.integers(1, 5))
async def test_no_interval_holds_more_than_the_limit(
    services: Services, times: list[int], in_order: bool, most: int
) -> None:
    """At any times, even if the clock goes back: the same decisions as a model list, and no wait beyond the window."""
    subject, limit, width = f"test:{next(NUMBERS)}", Limit(most, WINDOW), WINDOW * MICROSECONDS
    through: list[int] = []

    def work(tx: Transaction) -> None:
        for now in sorted(times) if in_order else times:
            standing = sorted(each + width for each in through if each <= now < each + width)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sql_time, "now", lambda now=now: now)
                wait = seconds_to_wait(tx, subject, limit)
            if len(standing) < most:
                assert wait is None
                through.append(now)
            else:
                assert wait == max(1, ceil((standing[-most] - now) / MICROSECONDS))
                assert wait <= WINDOW

    await services.storage.write(work)
    through.sort()
    if in_order:
        assert all(last - first >= width for first, last in zip(through, through[most:], strict=False))


@asynccontextmanager
async def write_lock(services: Services) -> AsyncIterator[None]:
    """Another process holds SQLite's write lock."""
    with closing(sqlite3.connect(services.storage.engines[1].url.database or "", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def seconds_to_wait(tx: Transaction, subject: str, limit: Limit) -> int | None:
    try:
        limits.take(tx, subject, limit)
    except TooMany as refused:
        return refused.retry_after
    return None


async def test_registrations_from_one_address_are_limited(wired: Wired) -> None:
    services = wired(register_limit=Limit(3, HOUR))
    racing = [services.accounts.register(f"name{each}", PASSWORD, None, "192.0.2.1") for each in range(6)]
    assert await outcomes(racing) == (3, 3)
    await services.accounts.register("another", PASSWORD, None, "192.0.2.2")
    await services.accounts.register("operator", PASSWORD)


async def test_invalid_registration_is_neither_counted_nor_hashed(
    wired: Wired, susan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = wired(register_limit=Limit(1, HOUR))

    async def no_hash(*_: object) -> str:
        raise AssertionError("what is refused anyway is not hashed")

    with monkeypatch.context() as idle:
        idle.setattr(Passwords, "hash", no_hash)
        for name, password in (("x", PASSWORD), ("john", "short"), ("john", "password1")):
            with pytest.raises(Invalid):
                await services.accounts.register(name, password, None, "192.0.2.1")
    await services.accounts.register("john", PASSWORD, None, "192.0.2.1")
    with monkeypatch.context() as idle:
        idle.setattr(Passwords, "hash", no_hash)
        with pytest.raises(TooMany):
            await services.accounts.register("third", PASSWORD, None, "192.0.2.1")


async def test_registration_is_counted_before_the_name_is_looked_up(wired: Wired, susan: User) -> None:
    """Otherwise it would tell without limit which names exist."""
    services = wired(register_limit=Limit(2, HOUR))
    for _ in range(2):
        with pytest.raises(Invalid, match="username_taken"):
            await services.accounts.register("Susan", PASSWORD, None, "192.0.2.1")
    with pytest.raises(TooMany):
        await services.accounts.register("Susan", PASSWORD, None, "192.0.2.1")


async def stored(services: Services, recipient: User) -> int:
    async with services.storage.reading() as reading:
        statement = select(func.count()).select_from(Message).where(Message.recipient_id == recipient.id)
        return (await reading.execute(statement)).scalar_one()


async def unread(services: Services, user: User) -> int:
    visit = await services.sessions.visit(await signed_in(services, user))
    assert visit is not None
    return visit.counters["unread_message_count"]


async def test_limit_of_20_stores_exactly_20_of_200_sends(wired: Wired, susan: User, john: User) -> None:
    services, other = wired(send_limit=Limit(20, 60)), wired(send_limit=Limit(20, 60))
    racing = [
        (services, other)[each % 2].messages.send_message(john.id, susan.id, f"message {each}", str(each))
        for each in range(200)
    ]
    assert await outcomes(racing) == (20, 180)
    assert await stored(services, susan) == await unread(services, susan) == 20
    with pytest.raises(TooMany):
        await services.messages.send_message(john.id, john.id, "whoever is to receive it")
    await services.messages.send_message(susan.id, susan.id, "each for themselves")


async def test_retry_of_a_sent_message_succeeds_over_the_limit(wired: Wired, susan: User, john: User) -> None:
    services = wired(send_limit=Limit(1, 60))
    assert await services.messages.send_message(john.id, susan.id, "hello", "n")
    with pytest.raises(TooMany):
        await services.messages.send_message(john.id, susan.id, "another", "n")
    assert not await services.messages.send_message(john.id, susan.id, "hello", "n")
    assert await stored(services, susan) == 1


async def test_failed_send_is_not_counted(wired: Wired, susan: User, john: User) -> None:
    services = wired(send_limit=Limit(1, 60))
    with pytest.raises(NotFound):
        await services.messages.send_message(john.id, 999, "hello")
    with pytest.raises(Invalid):
        await services.messages.send_message(john.id, susan.id, "")
    assert await services.messages.send_message(john.id, susan.id, "hello", "n")
    assert not await services.messages.send_message(john.id, susan.id, "hello", "n")
    assert await counted(services) == 1


async def test_refused_send_changes_no_counter_and_no_clock(wired: Wired, susan: User, john: User) -> None:
    services = wired(send_limit=Limit(1, 60))
    await services.messages.send_message(john.id, susan.id, "hello")
    reader = await signed_in(services, susan)
    before = await services.sessions.visit(reader)
    with pytest.raises(TooMany):
        await services.messages.send_message(john.id, susan.id, "hello again")
    after = await services.sessions.visit(reader)
    assert before is not None
    assert after is not None
    assert (before.cursor, before.counters) == (after.cursor, after.counters)


@pytest.mark.sqlite
async def test_cleanup_deletes_attempts_outside_the_window(
    wired: Wired, susan: User, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AT_ONCE", 1)
    services = wired(send_limit=Limit(5, 60))
    for text in ("one", "at the same time"):
        await services.messages.send_message(susan.id, susan.id, text)
    time.at(30)
    await services.messages.send_message(susan.id, susan.id, "two")
    time.at(60)
    await services.accounts.forget_expired()
    assert await counted(services) == 1


@pytest.mark.sqlite
async def test_window_ending_during_a_refusal_gives_retry_after_one(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = sql_time.now()
    await services.storage.write(lambda tx: limits.take(tx, "subject", Limit(1, 60)))
    readings = iter([began + 59_000_000, began + 61_000_000])
    monkeypatch.setattr(sql_time, "now", lambda: next(readings, began + 61_000_000))
    with pytest.raises(TooMany) as refused:
        await services.storage.write(lambda tx: limits.take(tx, "subject", Limit(1, 60)))
    assert refused.value.retry_after == 1

"""Group commit on SQLite: each change with its own outcome, and none acknowledged before the commit of its group."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, text

from microblog_rt.errors import Unavailable
from microblog_rt.models import User
from microblog_rt.services import Services, assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import Transaction, sqlite
from microblog_rt.storage.group_commit import LARGEST
from microblog_rt.timeouts import Timeouts
from tests.clients import DEADLINE, signed_in
from tests.conftest import PATIENT

pytestmark = pytest.mark.sqlite

Work = Callable[[Transaction], Any]


@pytest.fixture
def commits(services: Services) -> list[None]:
    """One item for each COMMIT."""
    counted: list[None] = []
    event.listen(services.storage.engines[1], "commit", lambda _: counted.append(None))
    return counted


@asynccontextmanager
async def held(services: Services) -> AsyncIterator[None]:
    """The writer's thread is busy with a change; those submitted in the block form its group."""
    begun, goes_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(_: Transaction) -> None:
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait(DEADLINE)

    first = services.storage.begin_write(work)
    first.add_done_callback(asyncio.Task.exception)  # fails with its group
    await begun.wait()
    try:
        yield
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the tasks of the block have submitted their changes
    finally:
        goes_on.set()


async def together(services: Services, *works: Work) -> list[Any]:
    """The outcomes of changes that wait together."""
    async with held(services):
        tasks = [asyncio.create_task(services.storage.write(each)) for each in works]
    return await asyncio.gather(*tasks, return_exceptions=True)


def rename(user: User, name: str) -> Work:
    def work(tx: Transaction) -> str:
        tx.execute(text('UPDATE "user" SET email = :name WHERE id = :id'), {"name": name, "id": user.id})
        return name

    return work


def emails(settings: Settings) -> list[str]:
    """What another connection sees."""
    with closing(sqlite3.connect(str(settings.sqlite_file))) as other:
        return [email for (email,) in other.execute('SELECT email FROM "user" ORDER BY id')]


async def test_waiting_changes_are_committed_together(
    services: Services, settings: Settings, susan: User, john: User, commits: list[None]
) -> None:
    commits.clear()
    assert await together(services, rename(susan, "a"), rename(john, "b"), rename(susan, "c")) == ["a", "b", "c"]
    assert emails(settings) == ["c", "b"]
    assert len(commits) == 1


async def test_failing_change_is_undone_alone(
    services: Services, settings: Settings, susan: User, john: User, commits: list[None]
) -> None:
    def fails(tx: Transaction) -> None:
        rename(susan, "lost")(tx)
        raise KeyError("a bug")

    def breaks_a_constraint(tx: Transaction) -> None:
        rename(john, "lost")(tx)
        tx.execute(text("INSERT INTO mailbox SELECT * FROM mailbox"))

    commits.clear()
    first, bug, constraint, last = await together(
        services, rename(susan, "a"), fails, breaks_a_constraint, rename(john, "b")
    )
    assert (first, last) == ("a", "b")
    assert isinstance(bug, KeyError)
    assert "UNIQUE constraint failed" in str(constraint)
    assert emails(settings) == ["a", "b"]
    assert len(commits) == 1


async def test_first_change_that_fails_leaves_the_others_to_the_next_group(
    services: Services, settings: Settings, susan: User, john: User
) -> None:
    begun, goes_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def fails(tx: Transaction) -> None:
        rename(susan, "lost")(tx)
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait(DEADLINE)
        raise KeyError("a bug")

    first = asyncio.create_task(services.storage.write(fails))
    await begun.wait()
    others = [asyncio.create_task(services.storage.write(rename(each, "kept"))) for each in (susan, john)]
    await asyncio.sleep(0)
    goes_on.set()
    with pytest.raises(KeyError):
        await first
    assert await asyncio.gather(*others) == ["kept", "kept"]
    assert emails(settings) == ["kept", "kept"]


async def test_failed_commit_fails_the_whole_group(
    services: Services, settings: Settings, susan: User, john: User
) -> None:
    before = emails(settings)
    fails = iter([True])

    def fail(_: Any) -> None:
        if next(fails, False):
            raise sqlite3.OperationalError("disk I/O error")

    event.listen(services.storage.engines[1], "commit", fail)
    outcomes = await together(services, rename(susan, "a"), rename(john, "b"))
    assert [type(each) for each in outcomes] == [sqlite3.OperationalError] * 2
    assert emails(settings) == before
    assert await together(services, rename(susan, "a"), rename(john, "b")) == ["a", "b"]
    assert emails(settings) == ["a", "b"]


async def test_failed_commit_undoes_what_another_change_was_refused_for(
    services: Services, susan: User, john: User
) -> None:
    """The second send is "sent already" because of the first, which is not stored in the end (I2)."""
    fails = iter([True])

    def fail(_: Any) -> None:
        if next(fails, False):
            raise sqlite3.OperationalError("disk I/O error")

    async with held(services):
        event.listen(services.storage.engines[1], "commit", fail)
        sends = [asyncio.create_task(services.messages.send_message(susan.id, john.id, "a", "nonce")) for _ in range(2)]
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(each) for each in outcomes] == [sqlite3.OperationalError] * 2
    assert await services.messages.send_message(susan.id, john.id, "a", "nonce")


async def test_given_up_change_that_was_committed_is_signalled(services: Services, susan: User) -> None:
    signalled, begun = asyncio.Event(), asyncio.Event()
    loop, goes_on = asyncio.get_running_loop(), threading.Event()

    def commits_slowly(_: Any) -> None:
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait(DEADLINE)

    event.listen(services.storage.engines[1], "commit", commits_slowly, once=True)
    running = services.storage.begin_write(rename(susan, "a"), signalled.set)
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    goes_on.set()
    async with asyncio.timeout(DEADLINE):
        await signalled.wait()


async def test_error_that_ends_the_transaction_fails_the_whole_group(
    services: Services, settings: Settings, susan: User, john: User
) -> None:
    """SQLite itself rolls back when the disk is full."""
    before = emails(settings)

    def fills_the_disk(tx: Transaction) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        try:
            tx.exec_driver_sql("CREATE TABLE big AS SELECT hex(randomblob(1000000)) AS x")
        finally:
            tx.exec_driver_sql("PRAGMA max_page_count = 1000000000")
            if tx.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
                tx.exec_driver_sql("ROLLBACK")  # where SQLite only undoes the statement

    outcomes = await together(services, rename(susan, "a"), fills_the_disk, rename(john, "b"))
    assert [type(each) for each in outcomes] == [Unavailable, Unavailable, str]
    assert "full" in str(outcomes[0].__cause__)
    assert emails(settings)[0] == before[0]
    assert await together(services, rename(susan, "a")) == ["a"]


async def test_replaced_file_fails_the_whole_group(
    services: Services, settings: Settings, susan: User, john: User
) -> None:
    async with held(services):
        tasks = [asyncio.create_task(services.storage.write(rename(each, "lost"))) for each in (susan, john)]
        assert settings.sqlite_file is not None
        settings.sqlite_file.rename(settings.sqlite_file.with_suffix(".old"))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in outcomes] == [Unavailable, Unavailable]


async def test_locked_database_fails_every_waiting_change(settings: Settings) -> None:
    services = assemble(settings, Timeouts(sqlite_busy=0.1))
    with closing(sqlite3.connect(str(settings.sqlite_file), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = [services.storage.write(lambda _: None) for _ in range(3)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(each) for each in outcomes] == [Unavailable] * 3
    await services.close()


async def test_nothing_is_acknowledged_before_the_commit(services: Services, susan: User, john: User) -> None:
    acknowledged: list[str] = []
    committing, goes_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def stop(_: Any) -> None:
        loop.call_soon_threadsafe(committing.set)
        goes_on.wait(DEADLINE)

    async def write(user: User, name: str) -> None:
        await services.storage.write(rename(user, name), lambda: acknowledged.append(f"{name} signalled"))
        acknowledged.append(name)

    event.listen(services.storage.engines[1], "commit", stop)
    async with held(services):
        tasks = [asyncio.create_task(write(susan, "a")), asyncio.create_task(write(john, "b"))]
    await committing.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert acknowledged == []
    goes_on.set()
    await asyncio.gather(*tasks)
    assert sorted(acknowledged) == ["a", "a signalled", "b", "b signalled"]


async def test_changes_are_applied_in_the_order_of_their_arrival(services: Services) -> None:
    order: list[int] = []

    def append(number: int, _: Transaction) -> None:
        order.append(number)

    await together(services, *(partial(append, number) for number in range(3 * LARGEST)))
    assert order == list(range(3 * LARGEST))


async def test_group_is_bounded(services: Services, commits: list[None]) -> None:
    commits.clear()
    await together(services, *[lambda _: None] * (2 * LARGEST))
    assert len(commits) == 3  # the change that held the thread is one of the first group


async def test_change_given_up_while_it_waits_is_not_applied(settings: Settings) -> None:
    writer = sqlite.Writer(settings.database_url, PATIENT)
    begun, goes_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    applied: list[str] = []

    def hold(_: Transaction) -> None:
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait(DEADLINE)

    async def run(work: Work) -> Any:
        return await writer.run(work)

    def append(name: str, _: Transaction) -> None:
        applied.append(name)

    tasks = [asyncio.create_task(run(hold))]
    await begun.wait()
    tasks += [asyncio.create_task(run(partial(append, name))) for name in "abc"]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.sleep(0)
    goes_on.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert applied == ["a", "c"]
    assert isinstance(outcomes[2], asyncio.CancelledError)
    assert outcomes[:2] + outcomes[3:] == [None] * 3
    await writer.close()


async def test_change_given_up_while_it_runs_is_undone(settings: Settings, services: Services, susan: User) -> None:
    """Alone, and in a group, where it takes nothing else with it."""
    for others in (0, 1):
        writer = sqlite.Writer(settings.database_url, PATIENT)
        begun, goes_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def slow(tx: Transaction) -> None:
            rename(susan, "lost")(tx)
            loop.call_soon_threadsafe(begun.set)  # noqa: B023
            goes_on.wait(DEADLINE)  # noqa: B023

        async def run(work: Work) -> Any:
            return await writer.run(work)  # noqa: B023

        kept = [asyncio.create_task(run(rename(susan, f"kept {others}"))) for _ in range(others + 1)]
        given_up = asyncio.create_task(run(slow))
        await begun.wait()
        given_up.cancel()
        await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await asyncio.gather(*kept)
        assert emails(settings) == [f"kept {others}"]
        await writer.close()


async def test_200_concurrent_sends_equal_the_database(
    services: Services, settings: Settings, susan: User, john: User, commits: list[None]
) -> None:
    """A third are duplicates, which fail in their savepoints."""
    commits.clear()
    services = assemble(replace(settings, send_limit=None), PATIENT)
    event.listen(services.storage.engines[1], "commit", lambda _: commits.append(None))
    sends = [
        services.messages.send_message(john.id, susan.id, f"no. {number % 134}", f"nonce {number % 134}")
        for number in range(200)
    ]
    outcomes = await asyncio.gather(*sends)
    assert sum(outcomes) == 134
    posts = (await services.messages.inbox(susan.id, 500)).rows
    assert sorted(post.body for post in posts) == sorted(f"no. {number}" for number in range(134))
    (page,) = await services.feed.page(await signed_in(services, susan), 0)
    assert page.data == 134
    assert page.timestamp == posts[0].timestamp
    assert len(commits) < 100
    await services.close()

"""Reads of the feed: a few at a time, each for all that wait, in one query."""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Protocol

from microblog_rt.accounts import Reader
from microblog_rt.bus import Bus
from microblog_rt.errors import ScopeMissing, Unavailable
from microblog_rt.models import READ_NOTIFICATIONS
from microblog_rt.storage import Storage, notifications
from microblog_rt.storage.notifications import Kind, Page
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

AT_ONCE = 4  # leaves a connection of the pool for pages
BATCH = 64  # 15,000 returning tabs take 240 queries


class Question(Protocol):
    """What is newer than ``cursor``, for a subscriber that is already subscribed."""

    reader: Reader
    cursor: int
    names: frozenset[str]
    started: bool  # whether it was answered before

    def begin(self) -> None:
        """The read begins."""

    def answer(self, page: Page | None) -> None:
        """The read has ended; None: the session has ended."""

    def fail(self, error: Exception) -> bool:
        """The read has failed; whether to ask again in a moment."""

    def ask_again(self) -> None:
        """That moment has come."""


class Reads:
    """The questions that wait for a read, and the tasks that read."""

    def __init__(
        self,
        storage: Storage,
        bus: Bus,
        timeouts: Timeouts,
        token_used: Callable[[Reader], None] = lambda _: None,
        refused: Callable[[Reader], None] = lambda _: None,
    ) -> None:
        self._token_used = token_used
        self._refused = refused
        self._storage = storage
        self._bus = bus
        self._timeouts = timeouts
        self._waiting: dict[Question, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, question: Question) -> None:
        """Read for ``question`` as soon as a task is free."""
        self._waiting[question] = None
        if len(self._tasks) < AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._read_all())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def drop(self, question: Question) -> None:
        """Do not read for ``question``; one that is being read for gets its answer."""
        self._waiting.pop(question, None)

    async def close(self) -> None:
        """End the tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read_all(self) -> None:
        while self._waiting:
            batch = list(islice(self._waiting, BATCH))
            for question in batch:
                del self._waiting[question]
            await self._read(batch)

    async def _read(self, batch: list[Question]) -> None:
        try:
            if self._bus.confirms:
                users = {each.reader.user_id for each in batch if not each.started}
                await asyncio.gather(*map(self._bus.wait_subscribed, users))
            for question in batch:
                question.begin()
            pages = await self._pages(batch)
        except Exception as error:
            self._retry([question for question in batch if question.fail(error)])
            return
        for question, page in zip(batch, pages, strict=True):
            try:
                self._answer(question, page)
            except Exception as error:
                log.exception("answering a read failed")
                question.fail(error)

    async def _pages(self, batch: Collection[Question]) -> Iterable[Page | None]:
        """The answers, in order. Tabs of one browser share the session and often the cursor: one read answers them.

        Each kind of credential is read with a query of its own.
        """
        keys = [(each.reader, each.cursor, each.names) for each in batch]
        found: dict[object, Page | None] = {}
        for kind in Kind:
            distinct = list(dict.fromkeys(key for key in keys if key[0].kind is kind))
            wanted = [(reader.key, reader.user_id, cursor, names) for reader, cursor, names in distinct]
            if len(wanted) == 1:
                found[distinct[0]] = await notifications.since(self._storage, *wanted[0], kind)
            elif wanted:
                pages = await notifications.since_each(self._storage, wanted, kind)
                found.update(zip(distinct, pages, strict=True))
        return [key[0].checked(found[key]) for key in keys]

    def _answer(self, question: Question, page: Page | None) -> None:
        if page is not None and not page.allowed:
            question.fail(ScopeMissing(READ_NOTIFICATIONS))
            return
        if page is None:
            self._refused(question.reader)
        elif question.reader.bearer:
            self._token_used(question.reader)
        question.answer(page)

    def _retry(self, questions: list[Question]) -> None:
        if not questions:
            return
        # Random, so that thousands of subscribers do not retry together.
        pause = random.uniform(self._timeouts.feed_retry_min, self._timeouts.feed_retry_max)  # noqa: S311

        def ask_again() -> None:
            for question in questions:
                question.ask_again()

        asyncio.get_running_loop().call_later(pause, ask_again)


def is_temporary(error: Exception) -> bool:
    """Whether a read that failed with ``error`` may succeed in a moment."""
    return isinstance(error, Unavailable)

"""Processes on a bus, and what is logged: what they have heard so far, and a way to wait for more."""

import asyncio
import logging
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from redis.asyncio import Redis as RawClient

from microblog_rt.bus import Bus, BusEvent, Changed, Gap, connect
from microblog_rt.protocol import Notification, Signal
from tests.clients import DEADLINE

AT_ONCE = 0.09  # seconds
GAP = "gap"
CHANGED = "changed"
USERS = range(600)  # whom processes listen to here, unless something else is said

NONE_OF_OURS = [
    b"",
    b"\xff\xfe",
    b"hello",
    b"[]",
    b"{}",
    b"7",
    b"[" * 4096,
    b'["x",1,2,3]',
    b'["x","1",2,3,null]',
    b'["x",1,2.5,3,null]',
    b'["x",1,null,3,null]',
    b'["x",1,2,3,"notification"]',
    b'["x",1,2,3,["n",{"a":1},2]]',
    b'["x",1,2,3,["n","no json",2]]',
    b'["x",1,2,3,["n","1","2"]]',
    b'["x",1,2,3,["n","1",3]]',
    b'["x",1,2,3,["n","1",-2]]',
    b'["x",1,99999999999999999999,3,["n","1",2]]',
    b'["x",1,2,3,null]' + b" " * 4096,
    b'["x",' + b"9" * 4000 + b"x,2,3,null]",
]


class Waiting:
    """A list that somebody else fills, and a way to wait until it holds something."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._changed = asyncio.Event()

    def add(self, what: Any) -> None:
        self.all.append(what)
        self._changed.set()

    async def until(self, true: Callable[[list[Any]], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not true(self.all):
                self._changed.clear()
                await self._changed.wait()


class Process:
    """A process on a bus: what it hears, in order."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.heard = Waiting()

    async def events(self) -> None:
        async for word in self.bus.events():
            self.heard.add(plain(word))

    async def hears(self, *words: Any) -> None:
        await self.heard.until(lambda heard: all(word in heard for word in words))

    async def publish(self, *signals: Signal) -> None:
        """As a sender does, who must not notification: not even other tasks have their turn meanwhile."""
        for signal in signals:
            begun, used, waits = time.monotonic(), time.thread_time(), _waits()
            self.bus.publish(signal)
            # A machine that gives a process no turn is waited for by nobody.
            assert time.monotonic() - begun < AT_ONCE or _waits() == waits
            assert time.thread_time() - used < AT_ONCE


def _waits() -> int:
    """How often this thread has waited for something of its own accord."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class Said(logging.Handler):
    """What is logged, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines = Waiting()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.add(self.format(record))

    def times(self, text: str) -> int:
        return sum(text in line for line in self.lines.all)

    async def until(self, text: str) -> None:
        await self.lines.until(lambda _: self.times(text) > 0)


def plain(word: BusEvent) -> Any:
    """A word as something that can be compared."""
    match word:
        case Gap(user_id=None):
            return GAP
        case Gap():
            return GAP, word.user_id
        case Changed():
            return CHANGED
    return word.user_id, word.clock, word.follows, repr(word.notification)


def signal(user_id: int, clock: int = 10, payload: str | None = None) -> Signal:
    return Signal(user_id, clock, clock - 1, None if payload is None else Notification("n", payload, clock))


@contextmanager
def noting() -> Iterator[Said]:
    """Note what microblog-rt logs."""
    said = Said()
    logger = logging.getLogger("microblog_rt")
    level = logger.level
    logger.addHandler(said)
    logger.setLevel(logging.INFO)
    yield said
    logger.setLevel(level)
    logger.removeHandler(said)


@asynccontextmanager
async def silent(url: str, database_url: str = "") -> AsyncIterator[Process]:
    """A process that does not listen."""
    process = Process(connect(url, database_url))
    yield process
    await process.bus.close()


@asynccontextmanager
async def listening(url: str, database_url: str = "", users: Iterable[int] = USERS) -> AsyncIterator[Process]:
    """A process that listens, once it does, and has subscribers for ``users``."""
    async with silent(url, database_url) as process:
        for user_id in users:
            process.bus.subscribe(user_id)
        async with running(process.events()) as task:
            async with asyncio.timeout(DEADLINE):
                await process.bus.connected.wait()
            yield process
            assert not task.done(), "it has stopped listening"


@asynccontextmanager
async def running(work: Any) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def others(raw: RawClient) -> list[Any]:
    """The connections that Redis has, but for this one."""
    await raw.ping()  # what has closed, it lets go of between two questions
    mine = await raw.client_id()
    return [each for each in await raw.client_list() if int(each["id"]) != mine]

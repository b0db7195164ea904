"""Processes on a bus, the log of microblog-rt, and ways to wait for what they receive."""

import asyncio
import logging
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from redis.asyncio import Redis as RawClient

from microblog_rt.bus import Bus, BusEvent, Changed, Gap, connect
from microblog_rt.protocol import Notification, Signal
from microblog_rt.timeouts import Timeouts
from tests.clients import DEADLINE

NO_DELAY = 0.09  # seconds; a call that takes longer has waited for something
GAP = "gap"
CHANGED = "changed"
USERS = range(600)  # the users that ``receiving_process`` subscribes to by default

# A broker on a busy machine may take long to answer.
PATIENT = Timeouts(broker_answer=DEADLINE, subscribe=DEADLINE)
FAST_RETRY = replace(PATIENT, broker_retry_max=0.2)
FREQUENT_HEARTBEAT = replace(FAST_RETRY, heartbeat_interval=0.1)
FAST_HEARTBEAT = replace(FREQUENT_HEARTBEAT, heartbeat_lost=0.5)

INVALID_SIGNALS = [
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


class Collector:
    """A list that another task appends to, and a way to wait for its content."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = asyncio.Event()

    def add(self, item: Any) -> None:
        self.items.append(item)
        self._changed.set()

    async def until(self, condition: Callable[[list[Any]], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition(self.items):
                self._changed.clear()
                await self._changed.wait()


class Process:
    """A process on a bus, and the events that it has received, in order."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.received = Collector()

    async def receive(self) -> None:
        async for event in self.bus.events():
            self.received.add(comparable(event))

    async def until_received(self, *events: Any) -> None:
        await self.received.until(lambda received: all(event in received for event in events))

    def publish(self, *signals: Signal) -> None:
        """Publish ``signals``; none of the calls may block."""
        for signal in signals:
            begun, used, waits = time.monotonic(), time.thread_time(), _voluntary_waits()
            self.bus.publish(signal)
            # A pause during which this thread waited for nothing is one of the machine.
            assert time.monotonic() - begun < NO_DELAY or _voluntary_waits() == waits
            assert time.thread_time() - used < NO_DELAY

    async def until_connected(self) -> None:
        """Wait until the bus has received a heartbeat."""
        async with asyncio.timeout(DEADLINE):
            while self.bus.health().state != "connected":
                await asyncio.sleep(0.005)

    async def until_next_heartbeat(self) -> None:
        """Wait for a heartbeat that was sent after this call: the first to arrive may have been sent before it."""
        for _ in range(2):
            self.bus.heartbeat._received_at = None
            await self.until_connected()


def _voluntary_waits() -> int:
    """How often this thread has given up the processor to wait for something."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class CapturedLog(logging.Handler):
    """Log lines, and a way to wait for one."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines = Collector()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.add(self.format(record))

    def count(self, text: str) -> int:
        """How many lines contain ``text``."""
        return sum(text in line for line in self.lines.items)

    async def until(self, text: str, times: int = 1) -> None:
        """Wait until ``times`` lines contain ``text``."""
        await self.lines.until(lambda _: self.count(text) >= times)


def comparable(event: BusEvent) -> Any:
    """An event as a value that can be compared."""
    match event:
        case Gap(user_id=None):
            return GAP
        case Gap():
            return GAP, event.user_id
        case Changed():
            return CHANGED
    return event.user_id, event.clock, event.follows, repr(event.notification)


def signal(user_id: int, clock: int = 10, payload: str | None = None) -> Signal:
    return Signal(user_id, clock, clock - 1, None if payload is None else Notification("n", payload, clock))


@contextmanager
def captured_log() -> Iterator[CapturedLog]:
    """Capture what microblog-rt logs, from INFO upwards."""
    log = CapturedLog()
    logger = logging.getLogger("microblog_rt")
    level = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    yield log
    logger.setLevel(level)
    logger.removeHandler(log)


@asynccontextmanager
async def idle_process(url: str, database_url: str = "", timeouts: Timeouts = PATIENT) -> AsyncIterator[Process]:
    """A process that can publish, and does not iterate over the events."""
    process = Process(connect(url, database_url, timeouts))
    try:
        yield process
    finally:
        await process.bus.close()


@asynccontextmanager
async def receiving_process(
    url: str, database_url: str = "", timeouts: Timeouts = PATIENT, users: Iterable[int] = USERS
) -> AsyncIterator[Process]:
    """A process that is connected, and subscribed to ``users``."""
    async with idle_process(url, database_url, timeouts) as process:
        for user_id in users:
            process.bus.subscribe(user_id)
        async with running(process.receive()) as task:
            async with asyncio.timeout(DEADLINE):
                await process.bus.connected.wait()
            yield process
            assert not task.done(), "the events have ended"


@asynccontextmanager
async def running(coroutine: Any) -> AsyncIterator["asyncio.Task[None]"]:
    """Run ``coroutine`` as a task until the block exits."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def other_connections(raw: RawClient) -> list[Any]:
    """The connections to Redis, without the one of ``raw``."""
    await raw.ping()  # Redis drops closed connections between two commands
    own = await raw.client_id()
    return [each for each in await raw.client_list() if int(each["id"]) != own]


@contextmanager
def short_broker_timeouts(*processes: Process) -> Iterator[None]:
    """Within the block these processes give up a broker sooner; before and after it they may be slow."""
    with ExitStack() as stack:
        for bus in (process.bus for process in processes):
            stack.enter_context(mock.patch.object(bus.heartbeat, "_lost_after", FAST_HEARTBEAT.heartbeat_lost))
            short = replace(bus.timeouts, broker_answer=0.5, subscribe=0.1)
            stack.enter_context(mock.patch.object(bus, "timeouts", short))
        yield

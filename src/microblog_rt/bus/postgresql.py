"""``postgresql://``: two connections per process, one that LISTENs and one that NOTIFYs after the commits.

Not inside their transactions: PostgreSQL serializes commits that NOTIFY, and fails them while its queue is full. The
queue fills while any session listens in a transaction that stays open. PostgreSQL frees it when a NOTIFY commits or its
usage is asked, so this module asks when a NOTIFY fails.

There is one channel for all users, not one per user: a listening session reads the whole queue of its database anyway,
compares each entry with its channels one by one, and each LISTEN is a transaction. The heartbeat has a channel of its
own.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import asyncpg

from microblog_rt.bus import wire
from microblog_rt.bus.base import Bus, BusEvent, Gap
from microblog_rt.bus.heartbeat import background_tasks
from microblog_rt.bus.outage import Outage
from microblog_rt.bus.publish_queue import PublishQueue
from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import Signal
from microblog_rt.settings import LOOPBACK
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

CHANNEL = "microblog_rt"
SEND = "SELECT pg_notify($1, signal) FROM unnest($2::text[]) AS signal"
HEARTBEAT = "SELECT pg_notify($1, '')"
FREE_QUEUE = "SELECT pg_notification_queue_usage()"
MAX_RECEIVED = 10_000  # events that wait for ``events``; one more, and all are replaced by a Gap


class PostgresqlBus(Bus):
    """The bus in the database of ``database_url``; ``url`` may override its host, port, user and password."""

    backend = "postgresql"

    def __init__(self, url: str, database_url: str, timeouts: Timeouts = Timeouts()) -> None:
        super().__init__(timeouts)
        self._address = _address(url, database_url)
        self._origin = secrets.token_hex(8)
        self._heartbeat_channel = f"{CHANNEL}_{self._origin}"
        self._publisher: Any = None
        publish_outage = Outage("PostgreSQL", "publishing signals", timeouts)
        self._publish_queue = PublishQueue(self._send_signals, publish_outage, timeouts)
        self._outage = Outage("PostgreSQL", "receiving signals", timeouts)
        self._attempted = False
        self._warned = False

    def publish(self, signal: Signal) -> None:
        """Queue ``signal`` for a background task."""
        self._publish_queue.put(signal)

    async def events(self) -> AsyncGenerator[BusEvent]:
        """Yield what other processes publish; a Gap after each connection that the first attempt did not make."""
        while True:
            reconnected, self._attempted = self._attempted, True
            received = _Received()
            try:
                async with self._connection(received) as connection:
                    if reconnected:
                        yield Gap()
                    heartbeat = self.heartbeat.run(lambda: self._send_heartbeat(connection))
                    async with background_tasks(heartbeat) as check:
                        while True:
                            event = await received.next(self.timeouts.heartbeat_interval)
                            if event is not None:
                                yield event
                            check()
                            self.heartbeat.check()
                            await asyncio.sleep(0)  # let other tasks run, however many events are queued
            except OSError as error:
                await self._outage.wait_before_retry(error)

    async def close(self) -> None:
        """Publish what is queued, for a bounded time, then disconnect."""
        await self._publish_queue.close()
        self._disconnect_publisher()

    @asynccontextmanager
    async def _connection(self, received: "_Received") -> AsyncIterator[Any]:
        answer = self.timeouts.broker_answer
        connection = await self._connect("microblog-rt bus")
        try:
            with _as_os_error():
                connection.add_termination_listener(lambda _: received.end())
                async with asyncio.timeout(answer):
                    await connection.add_listener(CHANNEL, lambda *arguments: self._receive(received, arguments[-1]))
                    await connection.add_listener(self._heartbeat_channel, lambda *_: self.heartbeat.received())
                self._outage.end()
                self.connected.set()
                yield connection
        finally:
            self.connected.clear()
            connection.terminate()

    async def _connect(self, name: str) -> Any:
        answer = self.timeouts.broker_answer
        settings = {"application_name": name, "synchronous_commit": "off"}  # a signal may be lost
        with _as_os_error():
            async with asyncio.timeout(answer):
                return await asyncpg.connect(**self._address, server_settings=settings, timeout=answer)

    async def _send_signals(self, signals: list[Signal]) -> None:
        packed = [wire.pack(self._origin, each).decode() for each in signals]
        if self._publisher is None or self._publisher.is_closed():
            self._publisher = await self._connect("microblog-rt bus publisher")
        try:
            await self._notify(self._publisher, SEND, CHANNEL, packed)
        except QueueFull:
            raise
        except BaseException:
            self._disconnect_publisher()
            raise

    async def _notify(self, connection: Any, statement: str, *values: Any) -> None:
        """Execute a statement that notifies; raises QueueFull, or another OSError if the connection is unusable."""
        answer = self.timeouts.broker_answer
        with _as_os_error():
            try:
                await connection.execute(statement, *values, timeout=answer)
            except asyncpg.ProgramLimitExceededError as error:
                await connection.execute(FREE_QUEUE, timeout=answer)
                raise QueueFull(str(error)) from None

    def _disconnect_publisher(self) -> None:
        if self._publisher is not None:
            self._publisher.terminate()
            self._publisher = None

    def _receive(self, received: "_Received", packed: str) -> None:
        try:
            origin, signal = wire.unpack(packed.encode())
        except ValueError:
            if not self._warned:
                log.warning("invalid signal ignored on channel %s; this is logged once", CHANNEL)
            self._warned = True
        else:
            if origin != self._origin:
                received.add(signal)

    async def _send_heartbeat(self, connection: Any) -> None:
        # Over the listening connection: if that cannot send, it cannot receive either.
        try:
            await self._notify(connection, HEARTBEAT, self._heartbeat_channel)
        except QueueFull:
            self.heartbeat.not_sent()


class QueueFull(OSError):
    """PostgreSQL's queue of notifications is full; the connection works."""


class _Received:
    """A bounded queue of received events, which ends with the connection."""

    def __init__(self) -> None:
        self._events: deque[BusEvent] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    def add(self, event: BusEvent) -> None:
        """Append ``event``; if the queue is full, replace its content by a Gap first."""
        if len(self._events) >= MAX_RECEIVED:
            self._events = deque([Gap()])
        self._events.append(event)
        self._changed.set()

    def end(self) -> None:
        """Record that the connection has ended."""
        self._ended = True
        self._changed.set()

    async def next(self, seconds: float) -> BusEvent | None:
        """Return the next event, or None after ``seconds``; raise OSError after the last event of a connection."""
        if not self._events:
            self._changed.clear()
            if self._ended:
                raise ConnectionError("the connection has ended")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        return self._events.popleft() if self._events else None


def _address(url: str, database_url: str) -> dict[str, Any]:
    """Return the arguments for ``asyncpg.connect``: those of ``url``, completed from ``database_url``."""
    try:
        given, database = _parts(urlsplit(url)), _parts(urlsplit(database_url))
    except ValueError:
        raise Misconfigured(EXPECTED) from None
    if not database_url.startswith("postgresql") or given.get("database") not in (None, database.get("database")):
        raise Misconfigured(EXPECTED)
    if "host" in given:
        database.pop("port", None)
    if "user" in given:
        database.pop("password", None)
    address = {**database, **given}
    if address.get("host") in LOOPBACK:
        address.setdefault("ssl", "disable")  # as in storage: the traffic does not leave the machine
    return address


def _parts(url: SplitResult) -> dict[str, Any]:
    query = dict(parse_qsl(url.query))
    found = {
        "host": url.hostname or query.get("host"),
        "port": url.port or int(query.get("port", 0)),
        "user": url.username and unquote(url.username),
        "password": url.password and unquote(url.password),
        "database": unquote(url.path.strip("/")),
        "ssl": query.get("ssl"),
    }
    return {name: value for name, value in found.items() if value}


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConnectionError(str(error)) from error


EXPECTED = (
    "MICROBLOG_BUS_URL: postgresql:// requires the database to be PostgreSQL; write postgresql:// alone, or add the "
    "HOST:PORT of a direct connection to that same database; percent-encode special characters in the password"
)

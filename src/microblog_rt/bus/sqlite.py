"""``sqlite://``: several processes on one SQLite file, without a broker.

``PRAGMA data_version`` changes on a connection whenever another connection, of any process, commits. While this process
has subscribers, a thread polls it every ``Timeouts.sqlite_poll``: 5 microseconds per poll, 0.6 percent of a core with
the wake-ups of the thread. Otherwise it polls once per heartbeat interval; every poll counts as a heartbeat. Commits of
this process change the version too; their users are not behind by then.

See also: ``feed/``, which finds the users that are behind.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event

from microblog_rt.bus.base import Bus, BusEvent, Changed, Gap
from microblog_rt.bus.outage import Outage
from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import Signal
from microblog_rt.timeouts import Timeouts


class SqliteBus(Bus):
    """The bus in the file of ``database_url``; raises Misconfigured if that is not an SQLite file."""

    backend = "sqlite"

    def __init__(self, database_url: str, timeouts: Timeouts = Timeouts()) -> None:
        super().__init__(timeouts)
        dialect, _, path = database_url.partition(":///")
        if dialect.partition("+")[0] != "sqlite" or not path:
            raise Misconfigured("MICROBLOG_BUS_URL: sqlite:// requires the database to be an SQLite file")
        self._path = Path(path)
        self._users: set[int] = set()
        self._has_users = asyncio.Event()
        self._outage = Outage("SQLite file", "receiving changes", timeouts)
        self._attempted = False

    def publish(self, signal: Signal) -> None:
        """Do nothing: the commit has changed the version."""

    def subscribe(self, user_id: int) -> None:
        """Poll often while there is at least one user."""
        self._users.add(user_id)
        self._has_users.set()

    def unsubscribe(self, user_id: int) -> None:
        self._users.discard(user_id)
        if not self._users:
            self._has_users.clear()

    async def events(self) -> AsyncGenerator[BusEvent]:
        """Yield Changed after each poll that found a new version."""
        while True:
            reconnected, self._attempted = self._attempted, True
            try:
                async with self._polling() as poll:
                    version = await poll(None)
                    self._outage.end()
                    self.connected.set()
                    if reconnected:
                        yield Gap()
                    while True:
                        self.heartbeat.received()
                        await self._wait_for_users()
                        found = await poll(version if self._has_users.is_set() else None)
                        if found != version:
                            version = found
                            yield Changed()
            except OSError as error:
                await self._outage.wait_before_retry(error)

    async def close(self) -> None:
        """Do nothing: the end of ``events`` has closed the connection."""

    async def _wait_for_users(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.timeouts.heartbeat_interval):
                await self._has_users.wait()

    @asynccontextmanager
    async def _polling(self) -> AsyncIterator[Callable[[int | None], Awaitable[int]]]:
        thread = ThreadPoolExecutor(1, "sqlite-bus")
        reader = _VersionReader(self._path, self.timeouts)

        async def poll(version: int | None) -> int:
            return await asyncio.get_running_loop().run_in_executor(thread, reader.poll, version)

        try:
            yield poll
        finally:
            self.connected.clear()
            reader.closing.set()
            # Wait for the close: the last connection to close merges the WAL into the file, which a read-only
            # connection cannot do.
            closed = asyncio.get_running_loop().run_in_executor(thread, reader.close)
            await asyncio.wait({closed}, timeout=self.timeouts.sqlite_busy)
            thread.shutdown(wait=False)


class _VersionReader:
    """A read-only connection, opened by the first poll; its methods run in one thread."""

    def __init__(self, path: Path, timeouts: Timeouts) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"
        self._timeouts = timeouts
        self._connection: sqlite3.Connection | None = None
        self.closing = Event()

    def poll(self, version: int | None) -> int:
        """Return the version, if None is given; else wait until it differs, at most for a heartbeat interval.

        Commits between two polls change the version once. Raises OSError if the file cannot be read.
        """
        until = time.monotonic() + self._timeouts.heartbeat_interval
        if version is None:
            return self._version()
        while not self.closing.wait(self._timeouts.sqlite_poll) and time.monotonic() < until:
            if (found := self._version()) != version:
                return found
        return version

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _version(self) -> int:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    self._uri, uri=True, timeout=self._timeouts.sqlite_busy, isolation_level=None
                )
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise OSError(str(error)) from None

"""``sqlite://``: several processes on one SQLite file and no broker; whatever is committed is the word.

``PRAGMA data_version`` moves on one connection when any other commits, in whatever process. While somebody listens here
it is looked at every ``EVERY`` seconds, on a thread of its own: 5 microseconds a look, with the waking of the thread
0.6 percent of a core. Else it is looked at once in the time of a heartbeat, which each look stands for. It moves for
our own commits too: those whom they were about are not behind. Not here: the look who is behind (``feed.py``).
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

from microblog_rt.bus import heartbeat
from microblog_rt.bus.base import Bus, BusEvent, Changed, Gap
from microblog_rt.bus.outage import Outage
from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import Signal

EVERY = 0.03  # seconds
BUSY_TIMEOUT = 1.0  # seconds


class SqliteBus(Bus):
    """The bus in the file of ``database_url``; raises Misconfigured where that is none."""

    backend = "sqlite"

    def __init__(self, database_url: str) -> None:
        super().__init__()
        dialect, _, path = database_url.partition(":///")
        if dialect.partition("+")[0] != "sqlite" or not path:
            raise Misconfigured("MICROBLOG_BUS_URL: sqlite:// wants the database to be an SQLite file")
        self._path = Path(path)
        self._joined: set[int] = set()
        self._somebody = asyncio.Event()
        self._outage = Outage("The SQLite file", "other processes are not heard")
        self._tried = False

    def publish(self, signal: Signal) -> None:
        """The commit has said it."""

    def subscribe(self, user_id: int) -> None:
        """Look often."""
        self._joined.add(user_id)
        self._somebody.set()

    def unsubscribe(self, user_id: int) -> None:
        """Look often no longer, if that was the last."""
        self._joined.discard(user_id)
        if not self._joined:
            self._somebody.clear()

    async def events(self) -> AsyncGenerator[BusEvent]:
        """Changed after each look that saw another version than the last."""
        while True:
            again, self._tried = self._tried, True
            try:
                async with self._opened() as look:
                    known = await look(None)
                    self._outage.over()
                    self.connected.set()
                    if again:
                        yield Gap()
                    while True:
                        self.heartbeat.heard()
                        await self._somebody_or_a_beat()
                        version = await look(known if self._somebody.is_set() else None)
                        if version != known:
                            known = version
                            yield Changed()
            except OSError as error:
                await self._outage.wait_out(error)

    async def close(self) -> None:
        """The listening has let go of everything."""

    async def _somebody_or_a_beat(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(heartbeat.BEAT):
                await self._somebody.wait()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Callable[[int | None], Awaitable[int]]]:
        thread = ThreadPoolExecutor(1, "sqlite-bus")
        file = _File(self._path)

        async def look(known: int | None) -> int:
            return await asyncio.get_running_loop().run_in_executor(thread, file.look, known)

        try:
            yield look
        finally:
            self.connected.clear()
            file.ended.set()
            # Waited for: who closes last merges the WAL into the file, and that must not be one that only reads.
            await asyncio.wait({asyncio.get_running_loop().run_in_executor(thread, file.close)}, timeout=BUSY_TIMEOUT)
            thread.shutdown(wait=False)


class _File:
    """One connection that reads, of one thread, opened at the first look."""

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"
        self._connection: sqlite3.Connection | None = None
        self.ended = Event()

    def look(self, known: int | None) -> int:
        """The version; if it is ``known``, another one once there is one, or that again after a heartbeat's time.

        Not another number for each commit: for all since the last look. Raises OSError for a file that cannot be read.
        """
        until = time.monotonic() + heartbeat.BEAT
        if known is None:
            return self._version()
        while not self.ended.wait(EVERY) and time.monotonic() < until:
            if (version := self._version()) != known:
                return version
        return known

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _version(self) -> int:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise OSError(str(error)) from None

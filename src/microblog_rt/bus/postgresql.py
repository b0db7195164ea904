"""``postgresql://``: NOTIFY inside the transaction that has the news, and one connection per process that LISTENs.

One channel for everybody, not one per user: every listening process reads the database's whole queue in any case,
compares each entry with all its channels one by one, and each LISTEN is a transaction. The heartbeat goes over a
channel of its own. Commits that notify wait for one another, in the whole cluster of databases, until each is on the
disk: who sends much in parallel is better served by Redis. Not here: the message (``wire.py``).
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

from microblog_rt.bus import heartbeat, wire
from microblog_rt.bus.alongside import alongside
from microblog_rt.bus.base import Bus, BusEvent, Gap, Transaction
from microblog_rt.bus.outage import Outage
from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import Signal
from microblog_rt.settings import LOOPBACK

log = logging.getLogger(__name__)

CHANNEL = "microblog_rt"
PATIENCE = 2.0  # seconds, for an answer
MOST = 10_000  # words that wait to be passed on; of more, all are forgotten, and it is a Gap


class PostgresqlBus(Bus):
    """The bus in the database of ``database_url``, reached at ``url``, of which what is missing is that one's."""

    backend = "postgresql"

    def __init__(self, url: str, database_url: str) -> None:
        super().__init__()
        self._address = _address(url, database_url)
        self._name = secrets.token_hex(8)
        self._own = f"{CHANNEL}_{self._name}"
        self._outage = Outage("PostgreSQL", "other processes are not heard")
        self._tried = False
        self._warned = False

    def stage(self, tx: Transaction, signal: Signal) -> None:
        """NOTIFY at the commit of ``tx``."""
        packed = wire.pack(self._name, signal).decode()
        tx.exec_driver_sql("SELECT pg_notify($1, $2)", (CHANNEL, packed))

    def publish(self, signal: Signal) -> None:
        """The commit has said it."""

    async def events(self) -> AsyncGenerator[BusEvent]:
        """What the other processes tell; a Gap after every connection but the first attempt's."""
        while True:
            again, self._tried = self._tried, True
            heard = _Heard()
            try:
                async with self._connected(heard) as connection:
                    if again:
                        yield Gap()
                    async with alongside(self.heartbeat.keep(lambda: self._beat(connection))) as check:
                        while True:
                            word = await heard.next(heartbeat.BEAT)
                            if word is not None:
                                yield word
                            check()
                            self.heartbeat.check()
                            # However much there is to hear, others have their turn.
                            await asyncio.sleep(0)
            except OSError as error:
                await self._outage.wait_out(error)

    async def close(self) -> None:
        """The listening has let go of everything."""

    @asynccontextmanager
    async def _connected(self, heard: "_Heard") -> AsyncIterator[Any]:
        with _trouble_is_os_error():
            async with asyncio.timeout(PATIENCE):
                connection = await asyncpg.connect(**self._address, timeout=PATIENCE)
        try:
            with _trouble_is_os_error():
                connection.add_termination_listener(lambda _: heard.end())
                async with asyncio.timeout(PATIENCE):
                    await connection.add_listener(CHANNEL, lambda *said: self._notice(heard, said[-1]))
                    await connection.add_listener(self._own, lambda *_: self.heartbeat.heard())
                self._outage.over()
                self.connected.set()
                yield connection
        finally:
            self.connected.clear()
            connection.terminate()

    def _notice(self, heard: "_Heard", packed: str) -> None:
        try:
            origin, signal = wire.unpack(packed.encode())
        except ValueError:
            if not self._warned:
                log.warning("somebody notifies on %s what is no signal-up; it is ignored", CHANNEL)
            self._warned = True
        else:
            if origin != self._name:
                heard.add(signal)

    async def _beat(self, connection: Any) -> None:
        # Over the connection that listens: where it cannot even say this, it hears nothing either.
        with _trouble_is_os_error():
            await connection.execute(f'NOTIFY "{self._own}"', timeout=PATIENCE)


class _Heard:
    """What has arrived and waits to be passed on: a bounded queue that ends with the connection."""

    def __init__(self) -> None:
        self._words: deque[BusEvent] = deque()
        self._some = asyncio.Event()
        self._ended = False

    def add(self, word: BusEvent) -> None:
        """It waits, unless too many do already."""
        if len(self._words) >= MOST:
            self._words = deque([Gap()])
        self._words.append(word)
        self._some.set()

    def end(self) -> None:
        """Nothing comes any more."""
        self._ended = True
        self._some.set()

    async def next(self, within: float) -> BusEvent | None:
        """The next word, if one comes within so many seconds; raises OSError once the last has been passed on."""
        if not self._words:
            self._some.clear()
            if self._ended:
                raise ConnectionError("the connection has ended")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._some.wait()
        return self._words.popleft() if self._words else None


def _address(url: str, database_url: str) -> dict[str, Any]:
    """How asyncpg is told where to connect: as ``url`` says, and for what that leaves out as ``database_url`` does."""
    try:
        here, database = _parts(urlsplit(url)), _parts(urlsplit(database_url))
    except ValueError:
        raise Misconfigured(WANTED) from None
    if not database_url.startswith("postgresql") or here.get("database") not in (None, database.get("database")):
        raise Misconfigured(WANTED)
    if "host" in here:
        database.pop("port", None)
    if "user" in here:
        database.pop("password", None)
    settings = {"application_name": "microblog-rt bus", "synchronous_commit": "off"}  # a heartbeat may be lost
    address = {**database, **here, "server_settings": settings}
    if address.get("host") in LOOPBACK:
        address.setdefault("ssl", "disable")  # as in storage: it does not leave the machine
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
def _trouble_is_os_error() -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConnectionError(str(error)) from error


WANTED = (
    "MICROBLOG_BUS_URL: wants the database to be PostgreSQL too: postgresql:// alone, or with the HOST:PORT where that "
    "same database is reached directly; what is special in a password is percent-encoded"
)

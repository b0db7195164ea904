"""``redis://``: one channel for the whole installation; who had to subscribe again may have missed something.

Two bare connections, one that hears and one that tells: redis-py's own pub/sub subscribes again without a word,
and never asks whether a Redis that says nothing is still there. Every wait for Redis is bounded here, by
``asyncio.timeout``. Not here: the message (``wire.py``), and what waits to be told (``outbox.py``).
"""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import RedisError

from microblog_rt.bus import wire
from microblog_rt.bus.base import Gap
from microblog_rt.bus.outage import Outage
from microblog_rt.bus.outbox import Outbox
from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import Wake

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds, for an answer
QUIET = 2.0  # seconds without a word, after which Redis is asked whether it is there


class RedisBus:
    """The bus through the Redis at ``url``; raises Misconfigured for a URL that Redis cannot have."""

    def __init__(self, url: str) -> None:
        self.listening = asyncio.Event()
        self._options = _options(url)
        self._channel = f"microblog-rt:{self._options.get('db', 0)}"
        self._name = secrets.token_hex(8)
        self._speaker = self._connection()
        self._outbox = Outbox(self._tell, Outage("Redis", "other processes are not told"))
        self._deafness = Outage("Redis", "other processes are not heard")
        self._tried = False
        self._warned = False

    async def publish(self, wake: Wake) -> None:
        """Tell the other processes, soon."""
        self._outbox.put(wake)

    async def listen(self) -> AsyncGenerator[Wake | Gap]:
        """What the other processes tell; a Gap after every subscription but the first attempt's."""
        while True:
            again, self._tried = self._tried, True
            try:
                async with self._subscription() as connection:
                    if again:
                        yield Gap()
                    while True:
                        wake = self._heard(await _next(connection))
                        if wake is not None:
                            yield wake
                        # However much there is to hear, others have their turn.
                        await asyncio.sleep(0)
            except OSError as error:
                await self._deafness.wait_out(error)

    async def close(self) -> None:
        """Tell what is still untold, for a moment; then let go of the connection."""
        await self._outbox.close()
        await self._speaker.disconnect(nowait=True)

    @asynccontextmanager
    async def _subscription(self) -> AsyncIterator[Connection]:
        connection = self._connection()
        try:
            with _trouble_is_os_error():
                async with asyncio.timeout(PATIENCE):
                    await connection.send_command("SUBSCRIBE", self._channel)
                    await connection.read_response()
                self._deafness.over()
                self.listening.set()
                yield connection
        finally:
            self.listening.clear()
            await connection.disconnect(nowait=True)

    def _heard(self, reply: Any) -> Wake | None:
        match reply:
            case [b"message", _, bytes(packed)]:
                try:
                    origin, wake = wire.unpack(packed)
                except ValueError:
                    self._warn()
                else:
                    return wake if origin != self._name else None
        return None

    def _warn(self) -> None:
        if not self._warned:
            log.warning("somebody publishes on %s what is no wake-up; it is ignored", self._channel)
        self._warned = True

    async def _tell(self, wakes: list[Wake]) -> None:
        commands = [("PUBLISH", self._channel, wire.pack(self._name, each)) for each in wakes]
        with _trouble_is_os_error():
            async with asyncio.timeout(PATIENCE):
                await _let_go_if_unclean(self._speaker)
                await self._speaker.send_packed_command(self._speaker.pack_commands(commands))
                for _ in commands:
                    await self._speaker.read_response()

    def _connection(self) -> Connection:
        kind: type[Connection] = self._options.get("connection_class", Connection)
        options = {name: value for name, value in self._options.items() if name != "connection_class"}
        try:
            # Without its own time-out for reading and writing: on Python 3.11 that one can swallow a cancellation.
            return kind(**options, protocol=2, socket_timeout=None, socket_connect_timeout=PATIENCE)
        except (TypeError, RedisError):
            raise Misconfigured(WANTED) from None


async def _next(connection: Connection) -> Any:
    """The next word from Redis; raises TimeoutError where it has none even when asked."""
    reply = await connection.read_response(timeout=QUIET)
    if reply is None:
        await connection.send_command("PING")
        reply = await connection.read_response(timeout=QUIET)
    if reply is None:
        raise TimeoutError(f"no answer for {QUIET} seconds")
    return reply


async def _let_go_if_unclean(connection: Connection) -> None:
    # Closed by Redis for having been idle, or with answers to what was given up. A command connects again by itself.
    if connection.is_connected and await connection.can_read():
        await connection.disconnect(nowait=True)


def _options(url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        known = all(name.startswith("ssl_") for name in parse_qs(parts.query))
        if not known or not re.fullmatch(r"(/\d*)?", parts.path, re.ASCII):
            raise ValueError
        return dict(parse_url(url))
    except ValueError:
        raise Misconfigured(WANTED) from None


@contextmanager
def _trouble_is_os_error() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise ConnectionError(str(error)) from error


WANTED = (
    "MICROBLOG_BUS_URL: wants redis://HOST:PORT/NUMBER, or rediss:// and after a ? nothing but ssl_...; "
    "what is special in a password is percent-encoded"
)

"""``redis://``: a channel per user, subscribed to while somebody listens here; a process's heartbeat on one of its own.

Two bare connections, one that hears and one that tells: redis-py's own pub/sub subscribes again without a word.
Every wait for Redis is bounded, by ``asyncio.timeout`` or by the heartbeat. Not here: the message (``wire.py``), what
waits to be told (``publish_queue.py``), and who is wanted (``subscriptions.py``).

In a Redis Cluster this works against any one node, but a plain PUBLISH goes to every node there is, so that more nodes
carry no more. Sharded pub/sub would: SPUBLISH and SSUBSCRIBE, each to the node that has the channel's slot, hence a
connection to each node, and a Gap for the users of a slot that moves. The channels are ready for it, one per user.
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import RedisError

from microblog_rt.bus import base, heartbeat, subscriptions, wire
from microblog_rt.bus.alongside import alongside
from microblog_rt.bus.base import Bus, BusEvent, Gap
from microblog_rt.bus.outage import Outage
from microblog_rt.bus.publish_queue import PublishQueue
from microblog_rt.bus.subscriptions import Subscriptions
from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import Signal

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds, for an answer
BATCH = 500  # channels asked for at once


class RedisBus(Bus):
    """The bus through the Redis at ``url``; raises Misconfigured for a URL that Redis cannot have."""

    backend = "redis"

    def __init__(self, url: str) -> None:
        super().__init__()
        self._options = _options(url)
        self._name = secrets.token_hex(8)
        self._channels = f"microblog-rt:{self._options.get('db', 0)}:user:"
        self._own = f"microblog-rt:{self._options.get('db', 0)}:process:{self._name}"
        self._speaker = self._connection()
        self._speaking = asyncio.Lock()
        self._publish_queue = PublishQueue(self._tell, Outage("Redis", "other processes are not told"))
        self._deafness = Outage("Redis", "other processes are not heard")
        self._subscriptions = Subscriptions()
        self._tried = False
        self._warned = False
        self._closed = False

    def publish(self, signal: Signal) -> None:
        """Tell the other processes, soon."""
        self._publish_queue.put(signal)

    def subscribe(self, user_id: int) -> None:
        """Subscribe to that user's channel, soon."""
        self._subscriptions.subscribe(user_id)

    def unsubscribe(self, user_id: int) -> None:
        """Unsubscribe from it, later."""
        self._subscriptions.unsubscribe(user_id)

    async def wait_subscribed(self, user_id: int) -> None:
        """Wait a moment for the subscription to stand; not where Redis is away."""
        await self._subscriptions.stand(user_id, 0 if self._deafness.lasts else base.SUBSCRIBED_WITHIN)

    async def events(self) -> AsyncGenerator[BusEvent]:
        """What the other processes tell; a Gap after every connection but the first attempt's."""
        while True:
            again, self._tried = self._tried, True
            try:
                async with self._connected() as connection:
                    for word in await self._subscribe_to_all(connection, again):
                        yield word
                    async with alongside(self.heartbeat.keep(self._beat), self._keep_asking(connection)) as check:
                        while True:
                            if some := self._heard(await connection.read_response(timeout=heartbeat.BEAT)):
                                yield some
                            check()
                            self.heartbeat.check()
                            # However much there is to hear, others have their turn.
                            await asyncio.sleep(0)
            except OSError as error:
                await self._deafness.wait_out(error)

    async def close(self) -> None:
        """Tell what is still untold, for a moment; then let go of the connection."""
        self._closed = True
        await self._publish_queue.close()
        await self._speaker.disconnect(nowait=True)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        connection = self._connection()
        try:
            with _trouble_is_os_error():
                yield connection
        finally:
            self.connected.clear()
            self._subscriptions.broken()
            await connection.disconnect(nowait=True)

    async def _subscribe_to_all(self, connection: Connection, again: bool) -> list[BusEvent]:
        """Subscribe to all who are wanted; what was heard meanwhile, after a Gap for everybody where one is due."""
        heard: list[BusEvent] = []
        for channels in _batches([self._own, *map(self._channel, self._subscriptions.unasked())]):
            async with asyncio.timeout(PATIENCE):
                await connection.send_command("SUBSCRIBE", *channels)
                missing = len(channels)
                while missing:
                    reply = await connection.read_response()
                    missing -= reply[0] == b"subscribe"
                    word = self._heard(reply)
                    if word is not None and not (again and isinstance(word, Gap)):
                        heard.append(word)
        self._deafness.over()
        self.connected.set()
        return [Gap(), *heard] if again else heard

    async def _keep_asking(self, connection: Connection) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(subscriptions.LINGER):
                    await self._subscriptions.news.wait()
            # In this order: who is gone may be back.
            gone = _batches(map(self._channel, self._subscriptions.gone()))
            come = _batches(map(self._channel, self._subscriptions.unasked()))
            commands = [("UNSUBSCRIBE", *some) for some in gone] + [("SUBSCRIBE", *some) for some in come]
            with _trouble_is_os_error():
                await connection.send_packed_command(connection.pack_commands(commands))

    def _channel(self, user_id: int) -> str:
        return f"{self._channels}{user_id}"

    def _heard(self, reply: Any) -> BusEvent | None:
        match reply:
            case [b"message", channel, _] if channel == self._own.encode():
                self.heartbeat.heard()
            case [b"message", _, bytes(packed)]:
                return self._unpacked(packed)
            case [b"subscribe", channel, _] if channel != self._own.encode():
                user_id = int(channel.rpartition(b":")[2])
                return Gap(user_id) if self._subscriptions.confirm(user_id) else None
        return None

    def _unpacked(self, packed: bytes) -> Signal | None:
        try:
            origin, signal = wire.unpack(packed)
        except ValueError:
            if not self._warned:
                log.warning("somebody publishes on %s... what is no signal-up; it is ignored", self._channels)
            self._warned = True
            return None
        return signal if origin != self._name else None

    async def _beat(self) -> None:
        # A Redis that is not there will not be heard either: that says enough.
        if self._closed:
            return
        with contextlib.suppress(OSError):
            await self._speak([("PUBLISH", self._own, b"")])

    async def _tell(self, signals: list[Signal]) -> None:
        await self._speak([("PUBLISH", self._channel(each.user_id), wire.pack(self._name, each)) for each in signals])

    async def _speak(self, commands: list[tuple[str | bytes, ...]]) -> None:
        with _trouble_is_os_error():
            async with asyncio.timeout(PATIENCE), self._speaking:
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


def _batches(channels: Iterable[str]) -> list[list[str]]:
    every = list(channels)
    return [every[start : start + BATCH] for start in range(0, len(every), BATCH)]


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

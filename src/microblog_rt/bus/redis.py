"""``redis://``: a channel per user, subscribed to while that user has subscribers here, and one for the heartbeat.

Two bare connections, one to receive and one to publish: the pub/sub object of redis-py reconnects without saying so,
and the Gap would be lost. Every wait for Redis is bounded, by ``asyncio.timeout`` or by the heartbeat.

In a Redis Cluster the bus works with any one node, but PUBLISH is broadcast to all nodes, so more nodes carry no more
signals. Sharded pub/sub (SPUBLISH, SSUBSCRIBE) would carry more; it needs a connection per node, and a Gap for the
users of each slot that moves.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import RedisError

from microblog_rt.bus import wire
from microblog_rt.bus.base import Bus, BusEvent, Gap
from microblog_rt.bus.heartbeat import background_tasks
from microblog_rt.bus.outage import Outage
from microblog_rt.bus.publish_queue import PublishQueue
from microblog_rt.bus.subscriptions import Subscriptions
from microblog_rt.errors import Misconfigured
from microblog_rt.protocol import Signal
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

BATCH = 500  # channels per command


class RedisBus(Bus):
    """The bus through the Redis at ``url``; raises Misconfigured for an invalid URL."""

    backend = "redis"
    confirms = True

    def __init__(self, url: str, timeouts: Timeouts = Timeouts()) -> None:
        super().__init__(timeouts)
        self._options = _options(url)
        self._origin = secrets.token_hex(8)
        self._channel_prefix = f"microblog-rt:{self._options.get('db', 0)}:user:"
        self._heartbeat_channel = f"microblog-rt:{self._options.get('db', 0)}:process:{self._origin}"
        self._publisher = self._connection()
        self._publisher_lock = asyncio.Lock()
        publish_outage = Outage("Redis", "publishing signals", timeouts)
        self._publish_queue = PublishQueue(self._send_signals, publish_outage, timeouts)
        self._outage = Outage("Redis", "receiving signals", timeouts)
        self._subscriptions = Subscriptions(timeouts)
        self._attempted = self._was_master = False
        self._warned = False

    def publish(self, signal: Signal) -> None:
        """Queue ``signal`` for a background task."""
        self._publish_queue.put(signal)

    def subscribe(self, user_id: int) -> None:
        """Subscribe to that user's channel in the background."""
        self._subscriptions.subscribe(user_id)

    def unsubscribe(self, user_id: int) -> None:
        """Unsubscribe from that user's channel after ``Timeouts.unsubscribe_delay``."""
        self._subscriptions.unsubscribe(user_id)

    async def wait_subscribed(self, user_id: int) -> None:
        """Wait until Redis confirms the subscription; return immediately during an outage."""
        await self._subscriptions.wait_confirmed(user_id, 0 if self._outage.ongoing else self.timeouts.subscribe)

    async def events(self) -> AsyncGenerator[BusEvent]:
        """Yield what other processes publish; a Gap after each connection that the first attempt did not make."""
        while True:
            reconnected, self._attempted = self._attempted, True
            try:
                await self._check_role()
                async with self._receiver() as connection:
                    for event in await self._subscribe_to_all(connection, reconnected):
                        yield event
                    heartbeat = self.heartbeat.run(self._send_heartbeat)
                    async with background_tasks(heartbeat, self._update_subscriptions(connection)) as check:
                        while True:
                            reply = await connection.read_response(timeout=self.timeouts.heartbeat_interval)
                            if received := self._event(reply):
                                yield received
                            check()
                            self.heartbeat.check()
                            await asyncio.sleep(0)  # let other tasks run, however much has arrived
            except OSError as error:
                await self._outage.wait_before_retry(error)

    async def close(self) -> None:
        """Publish what is queued, for a bounded time, then disconnect."""
        await self._publish_queue.close()
        await self._publisher.disconnect(nowait=True)

    @asynccontextmanager
    async def _receiver(self) -> AsyncIterator[Connection]:
        connection = self._connection()
        try:
            with _as_os_error():
                yield connection
        finally:
            self.connected.clear()
            self._subscriptions.connection_lost()
            await connection.disconnect(nowait=True)

    async def _subscribe_to_all(self, connection: Connection, reconnected: bool) -> list[BusEvent]:
        """Subscribe to every user; return the events received meanwhile, after a Gap if ``reconnected``."""
        events: list[BusEvent] = []
        for channels in _batches([self._heartbeat_channel, *map(self._channel, self._subscriptions.to_subscribe())]):
            async with asyncio.timeout(self.timeouts.broker_answer):
                await connection.send_command("SUBSCRIBE", *channels)
                unconfirmed = len(channels)
                while unconfirmed:
                    reply = await connection.read_response()
                    unconfirmed -= reply[0] == b"subscribe"
                    event = self._event(reply)
                    if event is not None and not (reconnected and isinstance(event, Gap)):
                        events.append(event)
        self._outage.end()
        self.connected.set()
        return [Gap(), *events] if reconnected else events

    async def _update_subscriptions(self, connection: Connection) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.timeouts.unsubscribe_delay):
                    await self._subscriptions.pending.wait()
            # Unsubscribe first: a user to unsubscribe from may already have been subscribed to again.
            removed = _batches(map(self._channel, self._subscriptions.to_unsubscribe()))
            added = _batches(map(self._channel, self._subscriptions.to_subscribe()))
            commands = [("UNSUBSCRIBE", *each) for each in removed] + [("SUBSCRIBE", *each) for each in added]
            with _as_os_error():
                await connection.send_packed_command(connection.pack_commands(commands))

    def _channel(self, user_id: int) -> str:
        return f"{self._channel_prefix}{user_id}"

    def _event(self, reply: Any) -> BusEvent | None:
        match reply:
            case [b"message", channel, _] if channel == self._heartbeat_channel.encode():
                self.heartbeat.received()
            case [b"message", _, bytes(packed)]:
                return self._signal(packed)
            case [b"subscribe", channel, _] if channel != self._heartbeat_channel.encode():
                user_id = int(channel.rpartition(b":")[2])
                return Gap(user_id) if self._subscriptions.confirmed(user_id) else None
        return None

    def _signal(self, packed: bytes) -> Signal | None:
        try:
            origin, signal = wire.unpack(packed)
        except ValueError:
            if not self._warned:
                log.warning("invalid signal ignored on a channel %s...; this is logged once", self._channel_prefix)
            self._warned = True
            return None
        return signal if origin != self._origin else None

    async def _send_heartbeat(self) -> None:
        # An error needs no handling: the heartbeat will not be received, and ``Heartbeat.check`` raises.
        with contextlib.suppress(OSError):
            await self._execute([("PUBLISH", self._heartbeat_channel, b"")])
        await self._check_role()

    async def _check_role(self) -> None:
        """Raise Demoted if a Redis that was the master is a replica now: the others publish to another one."""
        replies: list[Any] = []
        if self.connected.is_set() or self._was_master:
            with contextlib.suppress(OSError):  # also if the role is not to be asked
                replies = await self._execute([("ROLE",)])
        role = replies[0][0] if replies else None
        self._was_master = self._was_master or role == b"master"
        if self._was_master and role == b"slave":
            await self._publisher.disconnect(nowait=True)  # to resolve the address anew
            raise Demoted

    async def _send_signals(self, signals: list[Signal]) -> None:
        await self._execute(
            [("PUBLISH", self._channel(each.user_id), wire.pack(self._origin, each)) for each in signals]
        )

    async def _execute(self, commands: list[tuple[str | bytes, ...]]) -> list[Any]:
        with _as_os_error():
            async with asyncio.timeout(self.timeouts.broker_answer), self._publisher_lock:
                await _disconnect_if_unusable(self._publisher)
                await self._publisher.send_packed_command(self._publisher.pack_commands(commands))
                return [await self._publisher.read_response() for _ in commands]

    def _connection(self) -> Connection:
        kind: type[Connection] = self._options.get("connection_class", Connection)
        options = {name: value for name, value in self._options.items() if name != "connection_class"}
        options |= {"socket_keepalive": True, "socket_keepalive_options": _keep_alive(self.timeouts)}
        connect_timeout = self.timeouts.broker_answer
        try:
            # No socket_timeout: on Python 3.11 the one of redis-py can swallow a cancellation.
            return kind(**options, protocol=2, socket_timeout=None, socket_connect_timeout=connect_timeout)
        except (TypeError, RedisError):
            raise Misconfigured(EXPECTED) from None


class Demoted(ConnectionError):
    """The Redis at the URL was the master, and is a replica now."""

    def __init__(self) -> None:
        super().__init__("it is a replica now; waiting for the address to lead to the master")


def _keep_alive(timeouts: Timeouts) -> dict[int, int]:
    idle, interval = timeouts.keep_alive_idle, timeouts.keep_alive_interval
    return {socket.TCP_KEEPIDLE: idle, socket.TCP_KEEPINTVL: interval, socket.TCP_KEEPCNT: 3}


def _batches(channels: Iterable[str]) -> list[list[str]]:
    channels = list(channels)
    return [channels[start : start + BATCH] for start in range(0, len(channels), BATCH)]


async def _disconnect_if_unusable(connection: Connection) -> None:
    # Closed by Redis as idle, or holding replies to commands that timed out. The next command reconnects.
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
        raise Misconfigured(EXPECTED) from None


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise ConnectionError(str(error)) from error


EXPECTED = (
    "MICROBLOG_BUS_URL: expected redis://HOST:PORT/NUMBER, or rediss:// with no query parameters but ssl_...; "
    "percent-encode special characters in the password"
)

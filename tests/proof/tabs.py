"""Tabs over every transport. Each keeps a state and a cursor, and reconnects when it loses its connection.

Like the script of the pages, a tab acknowledges heartbeats, gives a connection up after 2.5 missed heartbeats, and
reconnects within a second after 1012, after the delay that the server sent, or with jitter. Its longest backoff is
shorter, to save time. A ``ClientTab`` is the Python client instead, with its own rules.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from microblog_rt.client import Client, ClientError, Notification, Status
from tests.http_client import websocket
from tests.http_connection import ERRORS, Connection
from tests.proof.host import Host
from tests.proof.ledger import Ledger, Shown
from tests.proof.people import Person

HEARTBEAT = 5.0  # seconds
SILENCE = 2.5 * HEARTBEAT
WAIT = 10  # seconds that a long poll is held
LONGEST_BACKOFF = 4.0  # seconds
COUNT, MARK = "unread_message_count", "mark"
RESTART = 0.9  # seconds; another host may be ready at once
RESTARTS, UNAVAILABLE = 1012, 4503  # close codes


class Tab:
    """One tab of one user; connects to the first of ``hosts``, and to the next after a failure."""

    kind = ""
    streams = True  # shows each change at once, and goes to the other host when its own stops

    def __init__(self, person: Person, hosts: Sequence[Host], ledger: Ledger) -> None:
        self.person = person
        self.state: dict[str, object] = {}
        self.since = 0
        self.delays: list[float] = []  # seconds from acknowledgement to display, while connected
        self.stale: list[float] = []  # the same, connected or not
        self.connected_at: float | None = None  # time of the first answer on this connection
        self.changed = 0.0  # time of the last change of the state
        self._hosts = hosts
        self._ledger = ledger
        self._counted = 0
        self._failures = 0
        self._host = 0

    def shows(self, count: int) -> bool:
        """Whether the tab is connected and shows that unread count."""
        return self.connected_at is not None and self.state.get(COUNT, 0) == count

    def drop(self) -> None:
        """Abort the connection."""
        raise NotImplementedError

    async def run(self) -> None:
        """Connect, and reconnect forever."""
        while True:
            pause = await self._connect(self._hosts[self._host])
            if self.connected_at is not None:
                self._ledger.change()
            self.connected_at = None
            self._failures += 1
            self._host = (self._host + 1) % len(self._hosts)
            backoff = random.uniform(0, min(0.25 * 2**self._failures, LONGEST_BACKOFF))
            await asyncio.sleep(backoff if pause is None else pause)

    async def _connect(self, host: Host) -> float | None:
        """Serve one connection until it ends; the delay in seconds that the server sent, if any."""
        raise NotImplementedError

    def _target(self, wait: int | None = None) -> str:
        held = "" if wait is None else f"&wait={wait}"
        return f"/notifications?since={self.since / 1_000_000!r}{held}"

    def _apply(self, text: str | bytes) -> None:
        now = self._ledger.now()
        if self.connected_at is None:
            self.connected_at, self._failures = now, 0
        for notification in json.loads(text):
            self.since = max(self.since, self._show(**notification))
            self.changed = now
        self._count(now)
        self._ledger.change()

    def _show(self, name: str, data: object, timestamp: float) -> int:
        """Apply one notification; its timestamp in microseconds."""
        stamp = round(timestamp * 1_000_000)
        if stamp <= self.since:
            self._ledger.wrong.append(
                f"I1: a {self.kind} of {self.person.name} received {name} = {data} of {stamp}, not after the cursor "
                f"{self.since}"
            )
        self._ledger.shown.add(Shown(self.person.id, name, _plain(data), stamp))
        self.state[name] = data
        return stamp

    def _count(self, now: float) -> None:
        acknowledged = self._ledger.acknowledged[self.person.id]
        shown = self.state.get(COUNT, 0)
        assert isinstance(shown, int)
        assert self.connected_at is not None
        while self._counted < min(shown, len(acknowledged)):
            self.stale.append(now - acknowledged[self._counted])
            self.delays.append(max(0.0, now - max(acknowledged[self._counted], self.connected_at)))
            self._counted += 1
        self._counted = max(self._counted, shown)


class Socket(Tab):
    """A tab with a WebSocket."""

    kind = "WebSocket"
    _socket: ClientConnection | None = None

    def drop(self) -> None:
        if self._socket is not None:
            self._socket.transport.abort()

    async def _connect(self, host: Host) -> float | None:
        timeouts: dict[str, Any] = {"ping_interval": None, "open_timeout": SILENCE, "close_timeout": 1}
        try:
            async with websocket(host.url, self.person.cookie, self._target(), **timeouts) as self._socket:
                await self._receive(self._socket)
        except InvalidStatus as error:
            self._ledger.answers[f"handshake {error.response.status_code}"] += 1
            delay = error.response.headers.get("Retry-After")
            # Another host may accept the tab immediately.
            return None if delay is None or self._failures % len(self._hosts) == 0 else float(delay)
        except ConnectionClosed as end:
            return self._closed(end)
        except (*ERRORS, InvalidHandshake, InvalidMessage):
            self._ledger.answers["handshake failed"] += 1
        finally:
            self._socket = None
        return None

    async def _receive(self, socket: ClientConnection) -> None:
        while True:
            async with asyncio.timeout(SILENCE):
                text = await socket.recv()
            self._apply(text)
            if text == "[]":
                await socket.send(repr(self.since / 1_000_000))

    def _closed(self, end: ConnectionClosed) -> float | None:
        code = end.rcvd.code if end.rcvd else None
        self._ledger.closes[code] += 1
        if code == RESTARTS:
            return random.uniform(0, RESTART)
        return int(end.rcvd.reason) / 1000 if end.rcvd and code == UNAVAILABLE else None


class HttpTab(Tab):
    """A tab that sends one GET after another."""

    _connection: Connection | None = None

    def drop(self) -> None:
        if self._connection is not None:
            self._connection.drop()

    async def _connect(self, host: Host) -> float | None:
        self._connection = Connection(host.port)
        try:
            while True:
                target, headers = self._target(self._wait()), {"Cookie": self.person.cookie}
                answer = await self._connection.request("GET", target, headers, seconds=WAIT + SILENCE)
                if answer.status != 200:
                    self._ledger.answers[f"{self.kind} {answer.status}"] += 1
                    return None if self._failures % len(self._hosts) == 0 else answer.retry_after
                self._apply(answer.body)
                await asyncio.sleep(float(answer.headers.get("poll-after", 0)))
        except ERRORS:
            self._ledger.answers[f"{self.kind} failed"] += 1
            return None
        finally:
            self._connection.drop()

    def _wait(self) -> int | None:
        raise NotImplementedError


class LongPoll(HttpTab):
    """Requests are held until there is news, except the first of a connection, which shows that it works."""

    kind = "long poll"

    def _wait(self) -> int | None:
        return WAIT if self.connected_at is not None else 0


class Poll(HttpTab):
    """Plain polls, to which the server sends the interval."""

    kind = "poll"
    streams = False

    def _wait(self) -> int | None:
        return None


class ClientTab(Tab):
    """The Python client, of one host, with a bearer token: it chooses the transport, and polls if no other works.

    ``drop`` replaces it by a new client, which continues from its cursor.
    """

    kind = "Python client"
    streams = False
    _following: asyncio.Task[None] | None = None

    def drop(self) -> None:
        if self._following is not None:
            self._following.cancel()

    async def run(self) -> None:
        """Follow forever, or until the client raises."""
        try:
            while True:
                async with asyncio.TaskGroup() as group:
                    self._following = group.create_task(self._follow())
                self.connected_at = None
        except* ClientError as errors:
            self.connected_at = None
            self._ledger.wrong.append(f"I1: a {self.kind} of {self.person.name} ended: {errors.exceptions[0]!r}")

    async def _follow(self) -> None:
        async with Client(self._hosts[0].url, self.person.bearer, on_status=self._changed) as client:
            async for notification in client.notifications(since=self.since / 1_000_000):
                self._receive(notification)
                self.since = round(client.cursor * 1_000_000)

    def _receive(self, notification: Notification) -> None:
        self._show(*notification)
        self.changed = self._ledger.now()
        if self.connected_at is not None:
            self._count(self.changed)
        self._ledger.change()

    def _changed(self, status: Status) -> None:
        if not status.online:
            self.connected_at = None
        elif self.connected_at is None:
            self.connected_at = self._ledger.now()
        self._ledger.change()


def _plain(data: object) -> object:
    return data if isinstance(data, int) else json.dumps(data)

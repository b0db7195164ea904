"""``/notifications`` as a WebSocket: sends the feed's pages as frames, receives acknowledgements and fresh tokens.

One task sends, one receives; when one ends, both end. See also: ``push/websocket.py`` for frame limits.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from microblog_rt import metrics, protocol
from microblog_rt.accounts import Reader
from microblog_rt.errors import Refused
from microblog_rt.feed import Feed, Follower
from microblog_rt.protocol import Notification
from microblog_rt.web.problems import close_of

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Renewed = Callable[[Reader, str], Reader]  # the reader of a token in a frame

QUOTE = '"'  # begins a frame that is a token
UNSUPPORTED = 1003
NOT_ACKNOWLEDGED = 4408

DELIVERIES = metrics.DELIVERIES["websocket"]

HEARTBEATS_UNANSWERED = 2


class Closing(Exception):
    """The connection ends with close code ``code``; None if the client has disconnected."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Socket:
    """Serves the WebSockets of this process; one call of ``serve`` per connection."""

    def __init__(self, feed: Feed, heartbeat: float, renewed: Renewed) -> None:
        self._feed = feed
        self._renewed = renewed
        self._heartbeat = heartbeat

    async def serve(self, reader: Reader, since: int, names: frozenset[str], receive: Receive, send: Send) -> None:
        """Serve one connection until either side closes it; raises Refused before the handshake is accepted."""
        follower = Follower(self._feed.reads, reader, since, names)
        async with aclosing(self._feed.pages(follower, self._heartbeat)) as pages:
            first = await anext(pages)
            header = (b"heartbeat", f"{self._heartbeat:g}".encode())
            await send({"type": "websocket.accept", "headers": [header]})
            try:
                await _run(first, pages, Client(follower, self._renewed), receive, send)
            except* Closing as group:
                closing = _first(group)
                if closing.code is not None:
                    metrics.closed(closing.code)
                    await send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})


async def _run(
    first: list[Notification], pages: AsyncGenerator[list[Notification]], client: "Client", receive: Receive, send: Send
) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_receive_all(client, receive))
        await _send_all(first, pages, client, send)


async def _send_all(
    first: list[Notification], pages: AsyncGenerator[list[Notification]], client: "Client", send: Send
) -> None:
    try:
        await send({"type": "websocket.send", "text": protocol.frame(first)})
        DELIVERIES.count(bool(first))
        async for notifications in pages:
            if notifications:
                client.expect_news_acknowledgement(notifications[-1])
            else:
                client.expect_acknowledgement()
            await send({"type": "websocket.send", "text": protocol.frame(notifications)})
    except Closing:
        raise
    except Exception as error:
        raise Closing(*close_of(error)) from None


async def _receive_all(client: "Client", receive: Receive) -> None:
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            raise Closing(None)
        client.received(event.get("text"))


class Client:
    """The acknowledgements of one client: of heartbeats, and of the notifications sent since the last.

    A token that it sends replaces its credential.
    """

    __slots__ = ("_acknowledges", "_follower", "_news", "_renewed", "_unanswered")

    def __init__(self, follower: Follower, renewed: Renewed) -> None:
        self._follower = follower
        self._renewed = renewed
        self._acknowledges = False
        self._unanswered = 0
        self._news: Notification | None = None

    def received(self, text: str | None) -> None:
        """Process one received frame; raises Closing unless it is an acknowledgement or a valid token."""
        if text is not None and text.startswith(QUOTE):
            self._renew(text)
            return
        if text is None or not protocol.is_acknowledgement(text):
            raise Closing(UNSUPPORTED)
        self._acknowledges = True
        self._unanswered = 0
        if self._news is not None and float(text) == self._news.timestamp / protocol.MICROSECONDS:
            metrics.ACKNOWLEDGED_AFTER.observe(protocol.age(self._news))
            self._news = None

    def _renew(self, text: str) -> None:
        try:
            self._follower.renew(self._renewed(self._follower.reader, text))
        except Refused as error:
            raise Closing(*close_of(error)) from None
        except ValueError:
            raise Closing(UNSUPPORTED) from None

    def expect_news_acknowledgement(self, newest: Notification) -> None:
        """Record that notifications are sent; their delay is measured if acknowledged before the next heartbeat."""
        DELIVERIES.count()
        self._news = newest

    def expect_acknowledgement(self) -> None:
        """Record that a heartbeat is sent; raises Closing if the client has stopped acknowledging them."""
        if self._acknowledges and self._unanswered == HEARTBEATS_UNANSWERED:
            raise Closing(NOT_ACKNOWLEDGED)
        self._unanswered += 1
        self._news = None


def _first(group: BaseExceptionGroup[Closing]) -> Closing:
    each: BaseException = group
    while isinstance(each, BaseExceptionGroup):
        each = each.exceptions[0]
    assert isinstance(each, Closing)  # noqa: S101
    return each

"""``/notifications`` as a WebSocket: frames out of the feed, acknowledgements in.

One task tells, one hears; whichever ends first ends the other. Not here: who may connect (``notifications.py``),
what there is to tell (``feed.py``), and how much a client may say (``server/websocket.py``).
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from microblog_rt import metrics, protocol
from microblog_rt.accounts import Reader
from microblog_rt.errors import Draining, Refused, Unavailable
from microblog_rt.feed import Feed
from microblog_rt.protocol import Notification
from microblog_rt.web.problems import ANSWERS, answer_to, unexpected

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

UNSUPPORTED = 1003
NOT_ACKNOWLEDGED = 4408

DELIVERIES = metrics.DELIVERIES["websocket"]

HEARTBEATS_UNANSWERED = 2
RETURN_WITHIN = 2000  # milliseconds


class Closing(Exception):
    """The connection is over; ``code`` says why, None where the client has gone already."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Socket:
    """Serves every WebSocket of this process; one call of ``serve`` is one connection."""

    def __init__(self, feed: Feed, heartbeat: float) -> None:
        self._feed = feed
        self._heartbeat = heartbeat

    async def serve(self, reader: Reader, since: int, names: frozenset[str], receive: Receive, send: Send) -> None:
        """Talk with one client until one of both ends it; raises Refused where it must not even begin."""
        feed = self._feed.follow(reader, since, names, heartbeat=self._heartbeat)
        async with aclosing(feed) as pages:
            first = await anext(pages)
            header = (b"heartbeat", f"{self._heartbeat:g}".encode())
            await send({"type": "websocket.accept", "headers": [header]})
            try:
                await _talk(first, pages, receive, send)
            except* Closing as group:
                closing = _first(group)
                if closing.code is not None:
                    metrics.closed(closing.code)
                    await send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})


async def _talk(
    first: list[Notification], pages: AsyncGenerator[list[Notification]], receive: Receive, send: Send
) -> None:
    client = Client()
    async with asyncio.TaskGroup() as group:
        group.create_task(_hear(client, receive))
        await _tell(first, pages, client, send)


async def _tell(
    first: list[Notification], pages: AsyncGenerator[list[Notification]], client: "Client", send: Send
) -> None:
    try:
        await send({"type": "websocket.send", "text": protocol.frame(first)})
        DELIVERIES.count(bool(first))
        async for notifications in pages:
            if notifications:
                client.is_told(notifications[-1])
            else:
                client.expect_acknowledgement()
            await send({"type": "websocket.send", "text": protocol.frame(notifications)})
    except Unavailable as error:
        raise Closing(answer_to(error).close_code, str(_milliseconds_to_wait(error))) from None
    except Refused as error:
        raise Closing(answer_to(error).close_code, error.code) from None
    except Closing:
        raise
    except Exception as error:
        raise Closing(ANSWERS["unexpected"].close_code, unexpected(error)) from None


async def _hear(client: "Client", receive: Receive) -> None:
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            raise Closing(None)
        client.says(event.get("text"))


class Client:
    """What is known of one client: whether it acknowledges heartbeats, and the news it was told since the last."""

    __slots__ = ("_acknowledges", "_news", "_unanswered")

    def __init__(self) -> None:
        self._acknowledges = False
        self._unanswered = 0
        self._news: Notification | None = None

    def says(self, text: str | None) -> None:
        """Take one frame; raises Closing unless it is an acknowledgement."""
        if text is None or not protocol.is_acknowledgement(text):
            raise Closing(UNSUPPORTED)
        self._acknowledges = True
        self._unanswered = 0
        if self._news is not None and float(text) == self._news.timestamp / protocol.MICROSECONDS:
            metrics.ACKNOWLEDGED_AFTER.observe(protocol.age(self._news))
            self._news = None

    def is_told(self, newest: Notification) -> None:
        """News is about to be sent. How long a client takes is known where it answers before the next heartbeat."""
        DELIVERIES.count()
        self._news = newest

    def expect_acknowledgement(self) -> None:
        """A heartbeat is about to be sent; raises Closing if the client has stopped answering them."""
        if self._acknowledges and self._unanswered == HEARTBEATS_UNANSWERED:
            raise Closing(NOT_ACKNOWLEDGED)
        self._unanswered += 1
        self._news = None


def _milliseconds_to_wait(error: Unavailable) -> int:
    if isinstance(error, Draining):
        return round(error.back_in * 1000)
    # Each its own: a herd that comes back at once would be the next outage.
    return random.randrange(RETURN_WITHIN)  # noqa: S311


def _first(group: BaseExceptionGroup[Closing]) -> Closing:
    each: BaseException = group
    while isinstance(each, BaseExceptionGroup):
        each = each.exceptions[0]
    assert isinstance(each, Closing)  # noqa: S101
    return each

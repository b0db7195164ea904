"""``/notifications`` as a WebSocket: frames out of the feed, acknowledgements in.

One task tells, one hears; whichever ends first ends the other. Not here: who may connect (``notifications.py``)
and what there is to tell (``feed.py``).
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from microblog_rt import protocol
from microblog_rt.accounts import Reader
from microblog_rt.errors import Refused, Unavailable
from microblog_rt.feed import Feed
from microblog_rt.protocol import Notice
from microblog_rt.web.problems import ANSWERS, answer_to, unexpected

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

UNSUPPORTED = 1003
POLICY_VIOLATION = 1008
TOO_BIG = 1009
NOT_ACKNOWLEDGED = 4408

FRAME_LIMIT = 4096  # bytes
FRAMES, FRAMES_SECONDS = 20, 10.0
HEARTBEATS_UNANSWERED = 2
RETURN_WITHIN = 2000  # milliseconds, after a restart


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
                    await send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})


async def _talk(first: list[Notice], pages: AsyncGenerator[list[Notice]], receive: Receive, send: Send) -> None:
    client = Client()
    async with asyncio.TaskGroup() as group:
        group.create_task(_hear(client, receive))
        await _tell(first, pages, client, send)


async def _tell(first: list[Notice], pages: AsyncGenerator[list[Notice]], client: "Client", send: Send) -> None:
    try:
        await send({"type": "websocket.send", "text": protocol.frame(first)})
        async for notices in pages:
            if not notices:
                client.expect_acknowledgement()
            await send({"type": "websocket.send", "text": protocol.frame(notices)})
    except Unavailable as error:
        raise Closing(answer_to(error).close_code, str(_milliseconds_to_wait())) from None
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
        client.says(event.get("text"), asyncio.get_running_loop().time())


class Client:
    """What is known of one client: whether it acknowledges, and how much it says."""

    __slots__ = ("_acknowledges", "_heard", "_unanswered")

    def __init__(self) -> None:
        self._acknowledges = False
        self._unanswered = 0
        self._heard: deque[float] | None = None

    def says(self, text: str | None, now: float) -> None:
        """Take one frame; raises Closing unless it is an acknowledgement, and not one too many."""
        if text is not None and len(text.encode()) > FRAME_LIMIT:
            raise Closing(TOO_BIG)
        if text is None or not protocol.is_acknowledgement(text):
            raise Closing(UNSUPPORTED)
        self._count(now)
        self._acknowledges = True
        self._unanswered = 0

    def expect_acknowledgement(self) -> None:
        """A heartbeat is about to be sent; raises Closing if the client has stopped answering them."""
        if self._acknowledges and self._unanswered == HEARTBEATS_UNANSWERED:
            raise Closing(NOT_ACKNOWLEDGED)
        self._unanswered += 1

    def _count(self, now: float) -> None:
        if self._heard is None:
            self._heard = deque(maxlen=FRAMES)
        if len(self._heard) == FRAMES and now - self._heard[0] < FRAMES_SECONDS:
            raise Closing(POLICY_VIOLATION)
        self._heard.append(now)


def _milliseconds_to_wait() -> int:
    # Each its own: a herd that comes back at once would be the next outage.
    return random.randrange(RETURN_WITHIN)  # noqa: S311


def _first(group: BaseExceptionGroup[Closing]) -> Closing:
    each: BaseException = group
    while isinstance(each, BaseExceptionGroup):
        each = each.exceptions[0]
    assert isinstance(each, Closing)  # noqa: S101
    return each

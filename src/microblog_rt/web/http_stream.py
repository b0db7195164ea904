"""``/notifications`` as a streamed response of the ASGI application: server-sent events or JSON lines.

See also: ``formats.py``; ``push/event_stream.py``, which sends the same without ASGI.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from microblog_rt.accounts import Reader
from microblog_rt.errors import Refused
from microblog_rt.feed import Feed
from microblog_rt.protocol import Notification
from microblog_rt.web.admission import Admission, Headers, Query
from microblog_rt.web.formats import Format
from microblog_rt.web.problems import unexpected

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Result = TypeVar("Result")


class ClientDisconnected(Exception):
    """The client disconnected."""


class HttpStream:
    """Serves the streamed responses of this process; one call of ``serve`` per request."""

    def __init__(self, feed: Feed, admission: Admission, heartbeat: float) -> None:
        self._feed = feed
        self._admission = admission
        self._heartbeat = heartbeat

    async def serve(
        self, reader: Reader, query: Query, form: Format, headers: Headers, receive: Receive, send: Send, body: bool
    ) -> None:
        """Send the response to a request with ``headers`` until either side ends it; only its head without ``body``.

        Raises Refused before the headers are sent, and ClientDisconnected.
        """
        await unless_disconnected(self._serve(reader, query, form, headers, send, body), receive)

    async def _serve(self, reader: Reader, query: Query, form: Format, sent: Headers, send: Send, body: bool) -> None:
        feed = self._feed.follow(reader, query.since, query.names, heartbeat=self._heartbeat)
        async with aclosing(feed) as pages:
            first = await anext(pages)
            headers = self._admission.stream_headers(form, self._heartbeat, sent)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            last = await _send_all(first, pages, form, send) if body else b""
            await send({"type": "http.response.body", "body": last, "more_body": False})


async def _send_all(
    first: list[Notification], pages: AsyncGenerator[list[Notification]], form: Format, send: Send
) -> bytes:
    """Send what the feed yields; the end of the body once it has ended."""

    async def send_part(part: bytes) -> None:
        await send({"type": "http.response.body", "body": part, "more_body": True})

    try:
        form.deliveries.count(bool(first))
        await send_part(form.opening() + form.encode(first))
        async for found in pages:
            form.deliveries.count(bool(found))
            await send_part(form.encode(found) if found else form.heartbeat)
    except Refused as error:
        return form.ending(error)
    except Exception as error:
        unexpected(error)
    return b""


async def unless_disconnected(work: Coroutine[Any, Any, Result], receive: Receive) -> Result:
    """The result of ``work``; cancels it and raises ClientDisconnected when the client has disconnected."""
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_until_disconnected(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnected
        return working.result()
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

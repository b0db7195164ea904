"""How a streamed response of the ASGI application ends."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from microblog_rt.accounts import Reader
from microblog_rt.errors import Draining, Refused, SignedOut
from microblog_rt.feed import Feed
from microblog_rt.protocol import Notification
from microblog_rt.web.admission import Admission, Query
from microblog_rt.web.formats import NDJSON, SSE, Format
from microblog_rt.web.http_stream import ClientDisconnected, HttpStream
from tests.asgi_server import OpenAdmission

FOUND = Notification("n", "1", 1_500_000)
EVENT = b'id: 1.5\ndata: {"name": "n", "data": 1, "timestamp": 1.5}\n\n'
LINE = b'{"name": "n", "data": 1, "timestamp": 1.5}\n'


class Yielding:
    """A feed that yields these pages and then raises; with None it waits forever. ``ended``: it was closed."""

    def __init__(self, pages: list[list[Notification]], error: Exception | None) -> None:
        self.pages, self.error = pages, error
        self.ended = False

    async def follow(self, *_: object, **__: object) -> AsyncGenerator[list[Notification]]:
        try:
            for each in self.pages:
                yield each
            if self.error is not None:
                raise self.error
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended = True


async def served(
    feed: Yielding, form: Format, *, body: bool = True, leaves: asyncio.Event | None = None
) -> list[dict[str, Any]]:
    """What is sent to a client that disconnects when ``leaves`` is set."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    stream = HttpStream(cast(Feed, feed), cast(Admission, OpenAdmission()), 20.0)
    query = Query(0, frozenset(), None, None, form)
    await stream.serve(Reader(1, "x"), query, form, [], receive, send, body)
    return sent


@pytest.mark.parametrize(
    ("form", "error", "end"),
    [
        (SSE, Draining(3.5), b"retry: 3500\n"),
        (SSE, SignedOut(), b""),
        (NDJSON, Draining(3.5), b""),
        (NDJSON, SignedOut(), b""),
    ],
)
async def test_stream_ends_with_its_feed(form: Format, error: Refused, end: bytes) -> None:
    start, first, change, beat, last = await served(Yielding([[], [FOUND], []], error), form)
    assert (b"content-type", form.media_type.encode()) in start["headers"]
    assert first["body"].startswith(form.heartbeat)
    assert change["body"] == (EVENT if form is SSE else LINE)
    assert beat["body"] == form.heartbeat
    assert last == {"type": "http.response.body", "body": end, "more_body": False}


async def test_unexpected_error_ends_the_stream_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    *_, last = await served(Yielding([[]], RuntimeError("broken on purpose")), SSE)
    assert (last["body"], last["more_body"]) == (b"", False)
    assert "broken on purpose" in caplog.text


async def test_refusal_before_the_first_page_sends_nothing() -> None:
    with pytest.raises(SignedOut):
        await served(Yielding([], SignedOut()), SSE)


async def test_client_that_disconnects_ends_the_feed() -> None:
    feed, leaves = Yielding([[]], None), asyncio.Event()
    asyncio.get_running_loop().call_soon(leaves.set)
    with pytest.raises(ClientDisconnected):
        await served(feed, SSE, leaves=leaves)
    assert feed.ended


async def test_head_ends_the_feed_after_the_first_page() -> None:
    feed = Yielding([[FOUND]], None)
    _, last = await served(feed, SSE, body=False)
    assert (last["body"], feed.ended) == (b"", True)

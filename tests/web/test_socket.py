"""How a WebSocket closes when its feed raises."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from microblog_rt.accounts import Reader
from microblog_rt.errors import Draining, Forbidden, Refused, SignedOut, Unavailable
from microblog_rt.feed import Feed
from microblog_rt.protocol import Notification
from microblog_rt.web.socket import Socket


class Ending:
    """A feed that yields one empty page and then raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.reads = None

    async def pages(self, *_: object) -> AsyncGenerator[list[Notification]]:
        yield []
        raise self.error


async def closed_with(error: Exception) -> tuple[int, str]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> None:
        await asyncio.get_running_loop().create_future()

    socket = Socket(cast(Feed, Ending(error)), 20.0, lambda reader, _: reader)
    await socket.serve(Reader(1, "x"), 0, frozenset(), receive, send)
    accept, first, close = sent
    assert accept == {"type": "websocket.accept", "headers": [(b"heartbeat", b"20")]}
    assert first == {"type": "websocket.send", "text": "[]"}
    assert close["type"] == "websocket.close"
    return close["code"], close["reason"]


@pytest.mark.parametrize(("error", "code"), [(SignedOut(), 4401), (Forbidden(), 4403)])
async def test_close_code_is_4000_plus_poll_status(error: Refused, code: int) -> None:
    assert await closed_with(error) == (code, error.code)


@pytest.mark.parametrize(("error", "code"), [(Draining(), 1012), (Unavailable(), 4503)])
async def test_close_reason_is_the_retry_delay_in_milliseconds(error: Refused, code: int) -> None:
    closed, reason = await closed_with(error)
    assert closed == code
    assert 0 <= int(reason) <= 2000


async def test_unexpected_error_closes_with_1011_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    code, reference = await closed_with(RuntimeError("broken on purpose"))
    assert code == 1011
    (logged,) = [each for each in caplog.records if each.name.startswith("microblog_rt")]
    assert reference in logged.getMessage()
    assert "broken on purpose" in caplog.text

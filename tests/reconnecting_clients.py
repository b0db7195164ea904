"""Clients that obey close codes: they reconnect after the given time, and back off while there is no server."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.http_client import websocket

RESTART = 1012
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 30.0  # seconds
TIMEOUT = 120.0


class ReconnectingClient:
    """One tab that always reconnects; records when and why it was closed, and when it was back."""

    def __init__(self, url: str, cookie: str) -> None:
        self._url = url
        self._cookie = cookie
        self.codes: list[int | None] = []
        self.left: list[float] = []
        self.due: list[float] = []  # reconnect times, from the close reasons
        self.there: list[float] = []

    async def stay(self) -> None:
        """Stay connected forever: receive frames, reconnect when closed."""
        backoff = FIRST_BACKOFF
        while True:
            pause = random.uniform(0, backoff)
            try:
                async with websocket(self._url, self._cookie) as tab:
                    await tab.recv()
                    self.there.append(time.monotonic())
                    backoff = FIRST_BACKOFF
                    pause = await self._until_closed(tab)
            except (OSError, WebSocketException, EOFError, TimeoutError):
                backoff = min(2 * backoff, LAST_BACKOFF)
            await asyncio.sleep(pause)

    async def _until_closed(self, tab: ClientConnection) -> float:
        try:
            while True:
                await tab.send("0" if await tab.recv() == "[]" else "1")
        except ConnectionClosed as end:
            self.left.append(time.monotonic())
            self.codes.append(end.rcvd.code if end.rcvd else None)
            restarting = end.rcvd and end.rcvd.code == RESTART
            pause = int(end.rcvd.reason) / 1000 if end.rcvd and restarting else random.uniform(0, FIRST_BACKOFF)
            self.due.append(self.left[-1] + pause)
            return pause


@asynccontextmanager
async def returners(url: str, cookies: Sequence[str]) -> AsyncIterator[list[ReconnectingClient]]:
    """One for each of ``cookies``, all connected once."""
    tabs = [ReconnectingClient(url, cookie) for cookie in cookies]
    tasks = [asyncio.create_task(tab.stay()) for tab in tabs]
    try:
        await all_connected(tabs, 1)
        yield tabs
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_connected(tabs: Sequence[ReconnectingClient], times: int) -> None:
    """Return once each has connected ``times`` times."""
    async with asyncio.timeout(TIMEOUT):
        while not all(len(tab.there) >= times for tab in tabs):
            await asyncio.sleep(0.05)


def most_at_once(moments: Sequence[float], window: float) -> int:
    """The largest number of ``moments`` within any ``window`` seconds."""
    moments = sorted(moments)
    return max(sum(start <= each < start + window for each in moments) for start in moments)

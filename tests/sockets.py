"""WebSocket tabs of signed-in users, over real sockets."""

import asyncio
import json
import re
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.http_client import NOTIFICATIONS, websocket
from tests.server_process import DEADLINE, Person


def cursor(person: Person) -> float:
    """Where this person stands now."""
    page = person.client.get("/").text
    found = re.search(r'data-since="([^"]+)"', page)
    assert found
    return float(found[1])


def socket_to(person: Person, query: str = "", **more: Any) -> connect:
    return websocket(person.server.url, person.cookie(), NOTIFICATIONS + query, **more)


async def frame(tab: ClientConnection) -> list[dict[str, Any]]:
    async with asyncio.timeout(DEADLINE):
        received = json.loads(await tab.recv())
    assert isinstance(received, list)
    return received


async def change(tab: ClientConnection) -> list[dict[str, Any]]:
    """The next frame that is no heartbeat."""
    while True:
        if received := await frame(tab):
            return received


async def closed(tab: ClientConnection) -> ConnectionClosed:
    async with asyncio.timeout(DEADLINE):
        try:
            while True:
                await tab.recv()
        except ConnectionClosed as end:
            return end


def code(end: ConnectionClosed) -> int | None:
    return end.rcvd.code if end.rcvd else None


async def refused(tab: connect) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as refusal:
        async with tab:
            pass
    return refusal.value

"""Responses as a raw client reads them, and waiting for a condition of this process."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from tests.asgi_server import RawClient

DEADLINE = 60.0  # seconds


class Response(NamedTuple):
    """The status, the header fields with lower-case names, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes


async def response(client: RawClient, *, body: bool = True) -> Response:
    """The next response; ``body``: whether it has one."""
    async with asyncio.timeout(DEADLINE):
        head = (await client.head()).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        length = int(headers["content-length"]) if body else 0
        return Response(int(head[0].split()[1]), headers, await client.reader.readexactly(length))


async def rest(client: RawClient) -> bytes:
    """What arrives until the server closes the connection."""
    async with asyncio.timeout(DEADLINE):
        return await client.reader.read()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0)

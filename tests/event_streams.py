"""A client of streamed responses: the lines of ``/notifications`` as server-sent events or JSON lines."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.http_client import NOTIFICATIONS
from tests.server_process import DEADLINE, Person

SSE, NDJSON = "text/event-stream", "application/x-ndjson"
KINDS = {SSE: "sse", NDJSON: "ndjson"}  # their names in the metrics


class Lines:
    """One response, line by line. ``last`` is the id of the last event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.headers = response.headers
        self.last = ""
        self._lines = response.aiter_lines()
        self.is_sse = response.headers["Content-Type"] == SSE

    async def next(self) -> str:
        """The next line; raises StopAsyncIteration at the orderly end."""
        async with asyncio.timeout(DEADLINE):
            return await anext(self._lines)

    async def change(self) -> dict[str, Any]:
        """The next notification."""
        while True:
            line = await self.next()
            if not self.is_sse:
                if line:
                    return dict(json.loads(line))
            elif line.startswith("id: "):
                self.last = line.removeprefix("id: ")
                data = await self.next()
                assert data.startswith("data: "), data
                assert await self.next() == ""
                found = dict(json.loads(data.removeprefix("data: ")))
                assert float(self.last) == found["timestamp"]
                return found
            else:
                assert line == ":" or line.startswith("retry: "), line

    async def heartbeat(self) -> None:
        """Wait for a heartbeat; any other line is an error."""
        assert await self.next() == (":" if self.is_sse else "")

    async def opened(self) -> None:
        """Read what every stream begins with."""
        await self.heartbeat()
        if self.is_sse:
            assert 1000 <= int((await self.next()).removeprefix("retry: ")) < 3000

    async def rest(self) -> list[str]:
        """The lines until the orderly end."""
        lines = []
        async with asyncio.timeout(DEADLINE):
            async for line in self._lines:
                lines.append(line)
        return lines


@asynccontextmanager
async def streaming(
    person: Person, query: str = "", accept: str = SSE, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Lines]:
    """A stream of that person's notifications, on a connection of its own."""
    sent = {"Cookie": person.cookie(), "Accept": accept, **(headers or {})}
    async with (
        httpx.AsyncClient(base_url=person.server.url, timeout=DEADLINE) as client,
        client.stream("GET", NOTIFICATIONS + query, headers=sent) as response,
    ):
        assert response.status_code == httpx.codes.OK, await response.aread()
        yield Lines(response)

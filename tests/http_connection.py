"""A minimal HTTP/1.1 client, cheap enough for hundreds of connections in one process."""

import asyncio
from typing import NamedTuple

CONNECT_WITHIN = 3.0  # seconds

# The errors of a failed request; the caller retries.
ERRORS = (OSError, EOFError, TimeoutError)


class Answer(NamedTuple):
    """The status, the headers with lower-case names, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Retry-After in seconds."""
        delay = self.headers.get("retry-after")
        return None if delay is None else float(delay)


class Connection:
    """A keep-alive connection; an error closes it, and the next request opens a new one."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(
        self, method: str, target: str, headers: dict[str, str], body: bytes = b"", *, seconds: float
    ) -> Answer:
        """Send one request and return its answer; raises one of ERRORS."""
        try:
            async with asyncio.timeout(seconds):
                await self.send(method, target, headers, body)
                answer = await self._answer()
        except BaseException:
            self.drop()
            raise
        if answer.headers.get("connection") == "close":
            self.drop()
        return answer

    async def send(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> None:
        """Send a request without waiting for the answer."""
        if self._writer is None:
            async with asyncio.timeout(CONNECT_WITHIN):
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = {"Host": f"127.0.0.1:{self.port}", "Content-Length": str(len(body)), **headers}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()

    def drop(self) -> None:
        """Abort the connection."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _answer(self) -> Answer:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = [line.partition(":") for line in head[1:] if line]
        headers = {name.lower(): value.strip() for name, _, value in fields}
        length = int(headers["content-length"])  # the server always sends it
        return Answer(int(head[0].split()[1]), headers, await self._reader.readexactly(length))

"""HTTP/1.1 for hundreds of clients in one process: requests over a connection, and little else."""

import asyncio
from typing import NamedTuple

CONNECT_WITHIN = 3.0  # seconds

# What a connection may end in; all of it means: ask again.
TROUBLE = (OSError, EOFError, TimeoutError)


class Answer(NamedTuple):
    """A status, the headers in small letters, a body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """What it says of when to ask again, in seconds."""
        said = self.headers.get("retry-after")
        return None if said is None else float(said)


class Connection:
    """Kept alive between requests as a browser does; any trouble ends it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self, method: str, target: str, headers: dict[str, str], body: bytes = b"", *, seconds: float
    ) -> Answer:
        """One request and its answer; raises one of TROUBLE."""
        try:
            async with asyncio.timeout(seconds):
                await self.say(method, target, headers, body)
                answer = await self._answer()
        except BaseException:
            self.drop()
            raise
        if answer.headers.get("connection") == "close":
            self.drop()
        return answer

    async def say(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> None:
        """The request alone."""
        if self._writer is None:
            async with asyncio.timeout(CONNECT_WITHIN):
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = {"Host": f"127.0.0.1:{self.port}", "Content-Length": str(len(body)), **headers}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()

    def drop(self) -> None:
        """End the connection at once, whatever is under way."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _answer(self) -> Answer:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = [line.partition(":") for line in head[1:] if line]
        headers = {name.lower(): value.strip() for name, _, value in fields}
        length = int(headers["content-length"])  # all of ours say it
        return Answer(int(head[0].split()[1]), headers, await self._reader.readexactly(length))

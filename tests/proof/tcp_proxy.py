"""The line from one host to its Redis: carried through here, so that it can be cut, hang, or let nothing be heard.

Not here: a Redis that is itself hung or gone (``tests/services.py``).
"""

import asyncio

PIECE = 65536


class Line:
    """``url`` leads to the Redis on ``target``, as long as nothing is done to it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._cut = self._deaf = False
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def cut(self) -> None:
        """End every connection, and each new one."""
        self._cut = True
        self._end_all()

    def pause(self) -> None:
        """Connections come about, and nothing goes through them in either direction."""
        self._flows.clear()

    def deafen(self) -> None:
        """Nothing that is published is heard; all else is answered."""
        self._deaf = True

    def heal(self) -> None:
        """Carry everything again; a pause is as long ago as if nothing had been."""
        self._cut = self._deaf = False
        self._flows.set()

    async def __aenter__(self) -> "Line":
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        self.cut()
        await asyncio.gather(*self._tasks)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._links.add(writer)
        try:
            if not self._cut:
                await self._link(reader, writer)
        except OSError:
            pass
        finally:
            self._links.discard(writer)
            writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, asks = await asyncio.open_connection("127.0.0.1", self._target)
        self._links.add(asks)
        hears = asyncio.Event()  # set once this connection is a subscription
        there = asyncio.create_task(self._pump(reader, asks, hears, asked=True))
        back = asyncio.create_task(self._pump(answers, writer, hears, asked=False))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            self._links.discard(asks)
            asks.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hears: asyncio.Event, *, asked: bool
    ) -> None:
        while data := await reader.read(PIECE):
            if asked and b"SUBSCRIBE" in data.upper():
                hears.set()
            await self._flows.wait()
            if self._deaf and hears.is_set() and not asked:
                continue
            writer.write(data)
            await writer.drain()

    def _end_all(self) -> None:
        for link in self._links:
            link.transport.abort()

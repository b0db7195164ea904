"""A TCP proxy between one host and its Redis that can cut, hang or silence the connections.

See also: ``tests/services.py``, which stops and hangs Redis itself.
"""

import asyncio

CHUNK = 65536


class TcpProxy:
    """A proxy at ``url`` for the Redis on port ``target``; forwards everything until a fault is injected."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._forwarding = asyncio.Event()
        self._forwarding.set()
        self._cut = self._silenced = False
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def cut(self) -> None:
        """Abort every connection, and each new one."""
        self._cut = True
        self._abort_all()

    def pause(self) -> None:
        """Accept connections, but forward nothing in either direction."""
        self._forwarding.clear()

    def silence(self) -> None:
        """Drop what Redis publishes to subscribers; forward everything else."""
        self._silenced = True

    def heal(self) -> None:
        """Forward everything again, including what a pause has held back."""
        self._cut = self._silenced = False
        self._forwarding.set()

    async def __aenter__(self) -> "TcpProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        self.cut()
        await asyncio.gather(*self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            if not self._cut:
                await self._forward(reader, writer)
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        responses, upstream = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.add(upstream)
        subscribed = asyncio.Event()  # set once this connection is a subscription
        requests = asyncio.create_task(self._pump(reader, upstream, subscribed, from_client=True))
        replies = asyncio.create_task(self._pump(responses, writer, subscribed, from_client=False))
        try:
            await asyncio.wait({requests, replies}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requests.cancel()
            replies.cancel()
            await asyncio.gather(requests, replies, return_exceptions=True)
            self._writers.discard(upstream)
            upstream.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        subscribed: asyncio.Event,
        *,
        from_client: bool,
    ) -> None:
        while data := await reader.read(CHUNK):
            if from_client and b"SUBSCRIBE" in data.upper():
                subscribed.set()
            await self._forwarding.wait()
            if self._silenced and subscribed.is_set() and not from_client:
                continue
            writer.write(data)
            await writer.drain()

    def _abort_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

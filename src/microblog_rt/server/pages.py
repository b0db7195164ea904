"""Hypercorn for the requests that the push edge does not serve: one server per connection, as long as it serves pages.

See also: ``connection.py``, the deadlines; ``http1.py``, the protocol.
"""

import asyncio
from typing import Any, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from microblog_rt.push import connection as push
from microblog_rt.server import http1
from microblog_rt.server.connection import Connection
from microblog_rt.timeouts import Timeouts


class Pages:
    """Serves the ASGI application ``app``, from ``start`` to ``finish``."""

    def __init__(self, app: Any, config: Config, timeouts: Timeouts) -> None:
        http1.install()
        self._app = ASGIWrapper(app)
        self._config = config
        self._timeouts = timeouts
        self._context = WorkerContext(None)
        self._state: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lifespan = Lifespan(self._app, config, asyncio.get_running_loop(), self._state)
        self._living: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the application. Raises what makes that fail."""
        self._living = asyncio.get_running_loop().create_task(self._lifespan.handle_lifespan())
        await self._lifespan.wait_for_startup()
        if self._living.done():
            self._living.result()

    async def finish(self) -> None:
        """Wait until the requests that have begun are answered."""
        await self._context.terminated.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Stop the application."""
        await self._lifespan.wait_for_shutdown()
        if self._living is not None:
            self._living.cancel()
            await asyncio.wait({self._living})

    def serve(self, connection: push.Connection, received: bytes) -> "PageProtocol":
        """Serve the requests on ``connection``, the first of which begins with ``received``."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        page_protocol = PageProtocol(connection, reader)
        page_protocol.connection_made(connection.transport)
        connection.transport.set_protocol(page_protocol)
        writer = Writer(connection.transport, page_protocol, reader, loop)
        server = page_protocol.server = Connection(
            self._app,
            loop,
            self._config,
            self._context,
            self._state,
            reader,
            writer,
            timeouts=self._timeouts,
            begin_request=connection.begin_request,
            on_idle=page_protocol.release,
        )
        page_protocol.feed(received)
        if connection.ended:
            reader.feed_eof()
        task = loop.create_task(server.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(page_protocol.ended)
        return page_protocol


class PageProtocol(asyncio.StreamReaderProtocol):
    """The transport's protocol while Hypercorn serves it; gives it back before a request for ``/notifications``."""

    server: Connection

    def __init__(self, connection: push.Connection, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._connection = connection
        self._received = 0
        self._held = b""  # of a request for ``/notifications`` that has arrived before the end of the last response

    @property
    def incomplete(self) -> bool:
        return self.server.incomplete

    @property
    def idle(self) -> bool:
        return self.server.idle

    def abort(self) -> None:
        self.server.abort()

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        self._held = b""
        if self._connection.is_for_us(data) is False:
            self.feed(data)
        elif self.server.is_between_requests(self._received):
            self.server.take_back()
            self._connection.come_back(data)
        elif self.server.is_responding(self._received) and len(data) <= push.PIPELINED:
            self._held = data
        else:
            self.feed(data)

    def release(self) -> None:
        """Continue with what has arrived during a response."""
        if self._held:
            self.data_received(b"")

    def eof_received(self) -> bool | None:
        self.feed(self._held)
        self._held = b""
        return super().eof_received()

    def feed(self, data: bytes) -> None:
        """Pass ``data`` to Hypercorn."""
        self._received += len(data)
        super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._held = b""
        super().connection_lost(error)
        self._connection.connection_lost(error)

    def ended(self, _: object) -> None:
        """Hypercorn has ended; without this cycle its memory is freed at once."""
        self.server = cast(Connection, EndedServer())


class EndedServer:
    """Replaces Hypercorn once that has ended, until the connection is lost."""

    incomplete = idle = False

    def abort(self) -> None:
        """The transport is closing."""

    def is_between_requests(self, _: int) -> bool:
        return False

    is_responding = is_between_requests


class Writer(asyncio.StreamWriter):
    """A writer that leaves its transport open when it is collected: the connection may have been taken back."""

    def __del__(self, *_: Any) -> None:
        pass

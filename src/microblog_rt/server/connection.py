"""One TCP connection, with a deadline on everything that a peer may leave undone.

Hypercorn waits for ever for the rest of a request, for a client that does not read, and for one that is gone
but for its keep-alive time; and it closes at once, so that a client that was still sending never hears why. Here
are the deadlines and an end that can be heard. Tests fail when Hypercorn's connection is no longer the one that
this replaces. Not here: WebSocket frames (``websocket.py``), the listening socket's own options (``listening.py``).
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import h11
from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import EventWrapper
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection

SEND_SECONDS = 10.0  # for a client to take what it was sent
HEAD_SECONDS = 6.0  # for the whole head of a request, from its first byte
BODY_SECONDS = 12.0  # for the whole body
LINGER_SECONDS = 0.5  # for a client to hear that this is the end, and to end too

GONE = (OSError, RuntimeError, TimeoutError)


class Connection(TCPServer):
    """A connection that ends in time, whatever its peer does."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._phase: object = None
        self._due: float | None = None
        self._reader_task: asyncio.Task[Any] | None = None
        self._heard_all: asyncio.Future[None] | None = None
        self._leaving = False
        # A send is over when the kernel has everything: what a client does not take is never kept here.
        self.writer.transport.set_write_buffer_limits(high=0)

    async def run(self) -> None:
        self._reader_task = asyncio.current_task()
        try:
            await super().run()
        finally:
            self.writer.transport.abort()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            async with self.send_lock:
                await self._send(event.data)
            return
        if isinstance(event, Closed) and isinstance(self.protocol.protocol, H11Protocol):
            # A client that has sent its next request already gets no turn any more, and Hypercorn would wait for one.
            self.protocol.protocol.connection = Ended()
        if not (isinstance(event, Updated) and self._leaving):
            await super().protocol_send(event)

    async def _send(self, data: bytes) -> None:
        transport = self.writer.transport
        try:
            if not transport.is_closing():
                self.writer.write(data)
            if transport.get_write_buffer_size():
                async with asyncio.timeout(SEND_SECONDS):
                    await self.writer.drain()
        except GONE:
            transport.abort()
        if transport.is_closing():
            await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        if isinstance(self.protocol.protocol, H11Protocol):
            self.protocol.protocol.can_read = Turn(self.reader, self._depart)
        while not self.reader.at_eof():
            try:
                async with asyncio.timeout_at(self._deadline()):
                    data = await self.reader.read(MAX_RECV)
            except GONE:
                break
            if not self._leaving:
                await self.protocol.handle(RawData(data))
        self._leaving = True
        if self._heard_all is not None and not self._heard_all.done():
            self._heard_all.set_result(None)
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    def _depart(self) -> None:
        """Read on to the end without a look at what comes."""
        self._leaving = True
        cast(H11Protocol, self.protocol.protocol).connection = Ended()

    def _deadline(self) -> float | None:
        """When the peer must have sent all of what it has begun to send; None where it has begun nothing."""
        phase, seconds = self._sending()
        if phase != self._phase:
            self._phase = phase
            self._due = None if phase is None else self.loop.time() + seconds
        return self._due

    def _sending(self) -> tuple[object, float]:
        protocol = self.protocol.protocol
        if not isinstance(protocol, H11Protocol):
            return None, 0
        state, number = protocol.connection.their_state, protocol.keep_alive_requests
        if state is h11.SEND_BODY:
            return (state, number), BODY_SECONDS
        if state is h11.IDLE and (number == 0 or protocol.connection.trailing_data[0]):
            return (state, number), HEAD_SECONDS
        return None, 0

    async def _close(self) -> None:
        if not self._leaving:
            self._leaving = True
            try:
                await self._say_goodbye()
            except GONE:
                self.writer.transport.abort()
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await super()._close()
        except GONE:
            self.writer.transport.abort()

    async def _say_goodbye(self) -> None:
        """End our side, and hear the other out for a moment: data unread at the end would take back what was said."""
        async with asyncio.timeout(SEND_SECONDS):
            await self.writer.drain()
        self.writer.write_eof()
        async with asyncio.timeout(LINGER_SECONDS):
            if asyncio.current_task() is self._reader_task:
                while await self.reader.read(MAX_RECV):
                    pass
            else:
                self._heard_all = self.loop.create_future()
                await self._heard_all


class Turn(EventWrapper):
    """In the place of the event that the next request of a client waits for, while another is held.

    Nothing is read meanwhile, so the client's end would not be noticed: it is this one's turn too. (Behind more than
    asyncio buffers, 128 KiB, it is not.)
    """

    def __init__(self, reader: asyncio.StreamReader, depart: Callable[[], None]) -> None:
        super().__init__()
        self._reader = reader
        self._depart = depart
        self._watches = self._ended = False

    async def wait(self) -> None:
        self._watch()
        if not self._ended:
            await super().wait()
        if self._ended:
            self._depart()

    def _watch(self) -> None:
        if self._watches:
            return
        self._watches = True
        self._ended = bool(self._reader._eof or self._reader.exception())  # type: ignore[attr-defined]
        for name in ("feed_eof", "set_exception"):
            setattr(self._reader, name, self._noticing(getattr(self._reader, name)))

    def _noticing(self, method: Callable[..., None]) -> Callable[..., None]:
        def noticed(*args: Any) -> None:
            method(*args)
            self._ended = True
            self._event.set()

        return noticed


class Ended(H11WSConnection):
    """In the place of h11's connection once ours is over: nothing comes out, and nothing more is said."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def send(self, _: object) -> bytes:
        return b""


def install() -> None:
    """Make every connection of this process such a one."""
    vars(run)["TCPServer"] = Connection

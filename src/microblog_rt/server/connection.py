"""One connection while Hypercorn serves it, with a deadline for everything that a client may leave undone.

Hypercorn waits forever for the rest of a request and for a client that does not read, notices a vanished client only
after the keep-alive time, and closes so abruptly that a client that is still sending never reads the response.

See also: ``pages.py``, which begins one.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import h11
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import EventWrapper
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream

from microblog_rt.server import http1
from microblog_rt.timeouts import Timeouts

DISCONNECTED = (OSError, RuntimeError, TimeoutError)


class Connection(TCPServer):
    """A connection that ends in time, whatever the client does, unless it is taken back between two requests."""

    def __init__(
        self, *args: Any, timeouts: Timeouts, begin_request: Callable[[], None], on_idle: Callable[[], None]
    ) -> None:
        super().__init__(*args)
        self.timeouts = timeouts
        self._begin_request = begin_request
        self._on_idle = on_idle
        self._taken_back = False
        self.protocol = cast(Any, EndedProtocol())  # until ``run`` begins
        self.read = 0  # bytes
        self._phase: object = None
        self._due: float | None = None
        self._reader_task: asyncio.Task[Any] | None = None
        self._read_to_end: asyncio.Future[None] | None = None
        self._answered: asyncio.Future[None] | None = None
        self._closing = False
        # A send ends when the kernel has taken everything: nothing is buffered here for a slow client.
        self.writer.transport.set_write_buffer_limits(high=1, low=0)

    async def run(self) -> None:
        self._reader_task = asyncio.current_task()
        try:
            if not self.writer.transport.is_closing():  # on uvloop it would have no addresses any more
                await super().run()
        finally:
            if not self._taken_back:
                self.abort()
            self._break_cycles()

    def is_between_requests(self, received: int) -> bool:
        """Whether a response has been sent, and nothing of the next request was among the bytes ``received``."""
        if self._closing or self.writer.transport.get_write_buffer_size():
            return False
        return self._their_state(received) is self._our_state() is h11.IDLE

    def is_responding(self, received: int) -> bool:
        """Whether a request has been read, nothing after it was among the bytes ``received``, and others may follow."""
        return not self._closing and self._their_state(received) is h11.DONE

    def _their_state(self, received: int) -> object:
        """h11's state of the client, after at least one request; None if something of the next has arrived."""
        protocol = self.protocol.protocol
        if self.read != received or not isinstance(protocol, http1.Protocol) or not protocol.requests:
            return None
        return None if protocol.connection.trailing_data[0] else protocol.connection.their_state

    def _our_state(self) -> object:
        return cast(http1.Protocol, self.protocol.protocol).connection.our_state

    def take_back(self) -> None:
        """End, and leave the connection open: it must be idle, and its next request is served elsewhere."""
        self._taken_back = self._closing = True
        self.reader.feed_eof()

    def _break_cycles(self) -> None:
        """Let memory be freed at once: a full garbage collection beside thousands of tabs takes long."""
        self.protocol = cast(Any, EndedProtocol())
        for name in ReadTurn.WATCHED:
            vars(self.reader).pop(name, None)
        if error := self.reader.exception():
            error.__traceback__ = None  # its frames keep this object

    @property
    def incomplete(self) -> bool:
        """Whether the client has not sent a whole request, or only a part of the next."""
        if self._sending()[0] is None:
            return False
        connection = cast(http1.StrictConnection, cast(http1.Protocol, self.protocol.protocol).connection)
        # What has arrived of the body may not have been parsed yet.
        return connection.their_state is h11.IDLE or (connection.has_body and not connection.trailing_data[0])

    @property
    def idle(self) -> bool:
        """Whether it is kept for a next request."""
        protocol = self.protocol.protocol
        return isinstance(protocol, http1.Protocol) and protocol.connection.our_state is h11.IDLE

    def abort(self) -> None:
        """Close it at once."""
        self.writer.transport.abort()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            async with self.send_lock:
                await self._send(event.data)
            return
        if isinstance(event, Updated) and not event.idle:
            self._begin_request()
        if isinstance(event, Closed) and isinstance(self.protocol.protocol, http1.Protocol):
            # The client may have sent its next request already; Hypercorn would wait for that one to be served.
            self.protocol.protocol.connection = ClosedConnection()
        if not (isinstance(event, Updated) and self._closing):
            await super().protocol_send(event)
        if isinstance(event, Updated) and event.idle:
            self.loop.call_soon(self._on_idle)

    async def _send(self, data: bytes) -> None:
        transport = self.writer.transport
        try:
            if not transport.is_closing():
                self.writer.write(data)
            if transport.get_write_buffer_size():
                async with asyncio.timeout(self.timeouts.send):
                    await self.writer.drain()
        except DISCONNECTED:
            transport.abort()
        if transport.is_closing():
            await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        if isinstance(self.protocol.protocol, http1.Protocol):
            self.protocol.protocol.can_read = ReadTurn(self.reader, self._discard_rest, self.timeouts.half_closed)
        data = b"begun"
        while data:
            try:
                async with asyncio.timeout_at(self._deadline()):
                    data = await self.reader.read(MAX_RECV)
            except DISCONNECTED:
                break
            self.read += len(data)
            if not self._closing:
                await self.protocol.handle(RawData(data))
        else:
            await self._finish_response()
        self._closing = True
        if self._read_to_end is not None and not self._read_to_end.done():
            self._read_to_end.set_result(None)
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    async def _finish_response(self) -> None:
        """Wait a moment for the response to a client that closed its side, in case it still reads."""
        protocol = self.protocol.protocol
        if self._closing or not isinstance(protocol, http1.Protocol) or not isinstance(protocol.stream, HTTPStream):
            return
        self._answered = self.loop.create_future()
        await asyncio.wait({self._answered}, timeout=self.timeouts.half_closed)

    def _discard_rest(self) -> None:
        """Read to the end and discard what arrives."""
        self._closing = True
        cast(http1.Protocol, self.protocol.protocol).connection = ClosedConnection()

    def _deadline(self) -> float | None:
        """When the client must have sent all of what it began to send; None if it began nothing."""
        phase, seconds = self._sending()
        if phase != self._phase:
            self._phase = phase
            self._due = None if phase is None else self.loop.time() + seconds
        return self._due

    def _sending(self) -> tuple[object, float]:
        protocol = self.protocol.protocol
        if not isinstance(protocol, http1.Protocol):
            return None, 0
        state, number = protocol.connection.their_state, protocol.requests
        if state is h11.SEND_BODY:
            return (state, number), self.timeouts.request_body
        if state is h11.IDLE and (number == 0 or protocol.connection.trailing_data[0]):
            return (state, number), self.timeouts.request_head
        return None, 0

    async def _initiate_server_close(self) -> None:
        if not self._taken_back:
            await super()._initiate_server_close()

    async def _close(self) -> None:
        if self._taken_back:
            await self.idle_task.stop()
            return
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)
        if not self._closing:
            self._closing = True
            try:
                await self._close_gracefully()
            except DISCONNECTED:
                self.writer.transport.abort()
        try:
            async with asyncio.timeout(self.timeouts.send):
                self.writer.close()
                await self.writer.wait_closed()
        except (*DISCONNECTED, asyncio.CancelledError) as error:  # the server ends
            error.__traceback__ = None  # the writer keeps the error, and a traceback keeps this object
            self.abort()
        finally:
            await self.idle_task.stop()

    async def _close_gracefully(self) -> None:
        """Close our side and read for a moment longer: unread data would make the kernel reset what was sent."""
        async with asyncio.timeout(self.timeouts.send):
            await self.writer.drain()
        if not self.writer.can_write_eof():
            return  # TLS: ``_close`` sends what is left, and that it closes
        self.writer.write_eof()
        async with asyncio.timeout(self.timeouts.linger):
            if asyncio.current_task() is self._reader_task:
                while await self.reader.read(MAX_RECV):
                    pass
            else:
                self._read_to_end = self.loop.create_future()
                await self._read_to_end


class ReadTurn(EventWrapper):
    """Replaces the event that a pipelined request waits for while another one is held.

    Nothing is read meanwhile, so this also wakes when the connection fails, and ``half_closed`` seconds after the
    client closed its side. (It cannot notice that behind more pipelined data than asyncio buffers, 128 KiB.)
    """

    WATCHED = ("feed_eof", "set_exception")

    def __init__(self, reader: asyncio.StreamReader, discard_rest: Callable[[], None], half_closed: float) -> None:
        super().__init__()
        self._reader = reader
        self._discard_rest = discard_rest
        self._half_closed = half_closed
        self._watching = self._closed = False

    async def wait(self) -> None:
        self._watch()
        if not self._closed:
            await super().wait()
        if self._closed:
            self._discard_rest()

    def _watch(self) -> None:
        if self._watching:
            return
        self._watching = True
        for name, seconds in zip(self.WATCHED, (self._half_closed, 0), strict=True):
            setattr(self._reader, name, self._ending_after(getattr(self._reader, name), seconds))
        if self._reader.exception():
            self._end()
        elif self._reader._eof:  # type: ignore[attr-defined]
            self._end_after(self._half_closed)

    def _ending_after(self, method: Callable[..., None], seconds: float) -> Callable[..., None]:
        def wrapper(*args: Any) -> None:
            method(*args)
            self._end_after(seconds)

        return wrapper

    def _end_after(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self._closed = True
        self._event.set()


class ClosedConnection(H11WSConnection):
    """Replaces h11's connection once ours is closed: no events, no output."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def send(self, _: object) -> bytes:
        return b""


class EndedProtocol:
    """Replaces the protocol of a connection that has ended."""

    protocol = None

    async def handle(self, _: Event) -> None:
        pass

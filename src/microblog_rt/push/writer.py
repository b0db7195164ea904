"""The server's end of a connection that is a stream: what is written, the deadlines of a client that does not read.

See also: ``websocket.py`` and ``event_stream.py``.
"""

import asyncio
import socket
from typing import TYPE_CHECKING

from microblog_rt.push.peers import close_writing
from microblog_rt.push.wheel import Wheel
from microblog_rt.timeouts import Timeouts

SEND_BUFFER = 16 * 1024  # bytes, in the kernel: small, so that a client that does not read is noticed soon


class Writer(asyncio.Protocol):
    """The protocol of a transport after the head of its response. A subclass has the attributes.

    Without attributes of its own, so that a stream can be this and a ``Stream`` in one object.
    """

    if not TYPE_CHECKING:  # mypy would refuse every assignment here
        __slots__ = ()

    SLOTS = ("_closing", "_deadline", "timeouts", "transport", "wheel")
    wheel: Wheel
    timeouts: Timeouts
    transport: asyncio.Transport
    _closing: bool
    _deadline: float  # for the client to read what was sent, or to close; 0: there is none

    def writable(self) -> None:
        """The client has read everything."""
        raise NotImplementedError

    def closed(self) -> None:
        """The connection ends: called once, for either side."""
        raise NotImplementedError

    def take_over(self, transport: asyncio.Transport, wheel: Wheel, timeouts: Timeouts) -> None:
        """Take over a transport after the head of its response."""
        self.transport, self.wheel, self.timeouts = transport, wheel, timeouts
        self._deadline = 0.0
        self._closing = False
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        # Nothing is buffered here for a slow client: what is written to it must wait until it has read everything.
        transport.set_write_buffer_limits(high=1, low=0)
        transport.set_protocol(self)
        if transport.get_write_buffer_size():
            self.pause_writing()

    @property
    def flowing(self) -> bool:
        """Whether the client has read everything."""
        return not self._deadline

    def finish(self, last: bytes) -> None:
        """Write ``last`` and close."""
        if self._closing:
            return
        self._end()
        if self.transport.is_closing():
            return
        self.transport.write(last)
        close_writing(self.transport)
        # Unread data would make the kernel reset the connection, and discard what was written.
        self._deadline = self._loop_time() + self.timeouts.linger
        self.wheel.at(self._deadline, self)  # type: ignore[arg-type]

    def check_deadline(self, now: float) -> None:
        """Cut a client that has not read, or not closed, in time."""
        if self._deadline and now >= self._deadline:
            self.transport.abort()

    # For the transport

    def eof_received(self) -> bool:
        return False  # close the transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._end()

    def pause_writing(self) -> None:
        if not self._closing:
            self._deadline = self._loop_time() + self.timeouts.send
            self.wheel.at(self._deadline, self)  # type: ignore[arg-type]

    def resume_writing(self) -> None:
        if not self._closing:
            self._deadline = 0.0
            self.writable()

    def _end(self) -> None:
        self._closing = True
        self.closed()

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()

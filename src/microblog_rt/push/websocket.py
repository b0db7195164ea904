"""The server's end of one WebSocket, as the protocol of its transport: frames in, frames out, and how it ends.

See also: ``frames.py``, ``tab.py``.
"""

import asyncio
import socket
from typing import TYPE_CHECKING

from microblog_rt import metrics
from microblog_rt.push import frames
from microblog_rt.push.frames import Decoder, Frame, Violation, close_code, close_frame, frame
from microblog_rt.push.peers import close_writing
from microblog_rt.push.wheel import Wheel
from microblog_rt.timeouts import Timeouts

FRAMES, FRAMES_SECONDS = 20, 10.0  # fragments and control frames count
SEND_BUFFER = 16 * 1024  # bytes, in the kernel: small, so that a client that does not read is noticed soon


class WebSocket(asyncio.Protocol):
    """A WebSocket after its handshake. A subclass says what to do with messages, and has the attributes.

    Without attributes of its own, so that a tab can be this and a ``Stream`` in one object.
    """

    if not TYPE_CHECKING:  # mypy would refuse every assignment here
        __slots__ = ()

    wheel: Wheel
    timeouts: Timeouts
    transport: asyncio.Transport
    _decoder: Decoder | None
    _frames: tuple[float, ...]  # when the last ones arrived
    _heard: float  # when anything arrived, in loop time
    _pinged: float  # when an unanswered ping was sent; 0: there is none
    _deadline: float  # for the client to read what was sent, or to close

    SLOTS = ("_closing", "_deadline", "_decoder", "_frames", "_heard", "_pinged", "timeouts", "transport", "wheel")
    _closing: bool

    def received(self, message: str | bytes) -> None:
        """A message has arrived."""
        raise NotImplementedError

    def writable(self) -> None:
        """The client has read everything."""
        raise NotImplementedError

    def closed(self) -> None:
        """The connection ends: called once, for either side."""
        raise NotImplementedError

    def take_over(self, transport: asyncio.Transport, wheel: Wheel, timeouts: Timeouts) -> None:
        """Take over a transport after the handshake."""
        self.transport, self.wheel, self.timeouts = transport, wheel, timeouts
        self._decoder = None
        self._frames = ()
        self._heard = asyncio.get_running_loop().time()
        self._pinged = self._deadline = 0.0
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

    def end_with(self, code: int, reason: str = "", payload: bytes | None = None) -> None:
        """Close with ``code``; ``payload``: of the close frame, if it answers the client's."""
        if self._closing:
            return
        metrics.closed(code)
        self._finish()
        if self.transport.is_closing():
            return
        self.transport.write(close_frame(code, reason) if payload is None else frame(frames.CLOSE, payload))
        close_writing(self.transport)
        # Unread data would make the kernel reset the connection, and discard the close frame.
        self._deadline = self._loop_time() + self.timeouts.linger
        self.wheel.at(self._deadline, self)  # type: ignore[arg-type]

    def ping_if_silent(self, now: float) -> None:
        """Send a ping to a client that has been silent; cut one that has not answered the last."""
        if self._pinged:
            if now - self._pinged >= self.timeouts.websocket_pong:
                self.transport.abort()
        elif now - self._heard >= self.timeouts.websocket_silence:
            self._pinged = now
            self.transport.write(frames.EMPTY_PING)

    def check_deadline(self, now: float) -> None:
        """Cut a client that has not read, or not closed, in time."""
        if self._deadline and now >= self._deadline:
            self.transport.abort()

    # For the transport

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._heard, self._pinged = self._loop_time(), 0.0
        decoder = self._decoder or Decoder()
        try:
            for each in decoder.receive(data):
                self._handle(each)
                if self._closing:
                    return
            self._decoder = decoder if decoder.pending else None
        except Violation as violation:
            self.end_with(violation.code)

    def eof_received(self) -> bool:
        return False  # close the transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            metrics.closed(frames.ABNORMAL)
            self._finish()

    def pause_writing(self) -> None:
        if not self._closing:
            self._deadline = self._loop_time() + self.timeouts.send
            self.wheel.at(self._deadline, self)  # type: ignore[arg-type]

    def resume_writing(self) -> None:
        if not self._closing:
            self._deadline = 0.0
            self.writable()

    def _handle(self, received: Frame) -> None:
        if received.opcode == frames.CLOSE:
            self.end_with(close_code(received.payload), payload=received.payload)
        elif self._too_many():
            metrics.limit_hit("frames")
            raise Violation(frames.POLICY)
        elif received.opcode == frames.PING:
            self.transport.write(frame(frames.PONG, received.payload))
        elif received.message is not None:
            self.received(received.message)

    def _too_many(self) -> bool:
        recent = [each for each in self._frames if self._heard - each < FRAMES_SECONDS]
        self._frames = (*recent, self._heard)
        return len(recent) >= FRAMES

    def _finish(self) -> None:
        self._closing = True
        self._decoder, self._frames = None, ()
        self.closed()

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()

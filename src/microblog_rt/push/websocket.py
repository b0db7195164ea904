"""The server's end of one WebSocket, as the protocol of its transport: frames in, frames out, and how it ends.

See also: ``frames.py``, ``tab.py``; ``writer.py`` for deadlines.
"""

import asyncio
from typing import TYPE_CHECKING

from microblog_rt import metrics
from microblog_rt.push import frames
from microblog_rt.push.frames import Decoder, Frame, Violation, close_code, close_frame, frame
from microblog_rt.push.wheel import Wheel
from microblog_rt.push.writer import Writer
from microblog_rt.timeouts import Timeouts

FRAMES, FRAMES_SECONDS = 20, 10.0  # fragments and control frames count


class WebSocket(Writer):
    """A WebSocket after its handshake. A subclass says what to do with messages, and has the attributes."""

    if not TYPE_CHECKING:
        __slots__ = ()

    FRAME_SLOTS = ("_decoder", "_frames", "_heard", "_pinged")
    _decoder: Decoder | None
    _frames: tuple[float, ...]  # when the last ones arrived
    _heard: float  # when anything arrived, in loop time
    _pinged: float  # when an unanswered ping was sent; 0: there is none

    def received(self, message: str | bytes) -> None:
        """A message has arrived."""
        raise NotImplementedError

    def take_over(self, transport: asyncio.Transport, wheel: Wheel, timeouts: Timeouts) -> None:
        """Take over a transport after the handshake."""
        self._decoder = None
        self._frames = ()
        self._heard = self._loop_time()
        self._pinged = 0.0
        super().take_over(transport, wheel, timeouts)

    def end_with(self, code: int, reason: str = "", payload: bytes | None = None) -> None:
        """Close with ``code``; ``payload``: of the close frame, if it answers the client's."""
        if self._closing:
            return
        metrics.closed(code)
        self.finish(close_frame(code, reason) if payload is None else frame(frames.CLOSE, payload))

    def ping_if_silent(self, now: float) -> None:
        """Send a ping to a client that has been silent; cut one that has not answered the last."""
        if self._pinged:
            if now - self._pinged >= self.timeouts.websocket_pong:
                self.transport.abort()
        elif now - self._heard >= self.timeouts.websocket_silence:
            self._pinged = now
            self.transport.write(frames.EMPTY_PING)

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

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            metrics.closed(frames.ABNORMAL)
        super().connection_lost(error)

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

    def _end(self) -> None:
        self._decoder, self._frames = None, ()
        super()._end()

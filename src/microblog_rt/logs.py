"""The log: text, or one JSON object per line; a reader that stops reading loses lines and never blocks the program."""

import contextlib
import json
import logging
import os
import select
import socket
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from microblog_rt import metrics


def begin(form: str, *, several: bool) -> None:
    """Log to standard error as ``text`` or ``json``; ``several``: with process ids, as several processes log there."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs, and that of the webhooks may have a secret
    process = " [%(process)d]" if several else ""
    handler = NonBlockingHandler(2)
    text = logging.Formatter(f"%(asctime)s{process} %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class NonBlockingHandler(logging.Handler):
    """Writes lines to a descriptor. Lines that would have to wait are dropped and counted; a later one says so."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._opened = contextlib.ExitStack()
        self._write = _non_blocking_write(descriptor, self._opened)
        self._rest = b""  # of a line that was written in part
        self._lost = 0

    def close(self) -> None:
        """Close what was opened beside the descriptor."""
        self._opened.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or drop it."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            if self._lost:
                lost = logging.LogRecord(__name__, logging.WARNING, "", 0, "%d log lines lost", (self._lost,), None)
                line = f"{self.format(lost)}\n".encode() + line
            self._rest = self._rest[self._write(self._rest) :] if self._rest else b""
            if self._rest:
                raise BlockingIOError
            self._rest = line[self._write(line) :]
            self._lost = 0
        except Exception:  # the reader is slow or gone; a log has nowhere to report that
            self._lost += 1
            metrics.LOG_LINES_LOST.count()


def _non_blocking_write(descriptor: int, opened: contextlib.ExitStack) -> Callable[[bytes], int]:
    """A function that writes what fits at once, or raises OSError; other users of the descriptor stay unaffected."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        mode = 0
    if stat.S_ISSOCK(mode):
        connection = opened.enter_context(socket.socket(fileno=os.dup(descriptor)))
        return lambda data: connection.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):
            # Opened again, so that O_NONBLOCK is not set for the other programs that share the pipe or terminal.
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            opened.callback(os.close, own)
            return lambda data: os.write(own, data)
        return partial(_write_if_ready, descriptor)
    return lambda data: os.write(descriptor, data)


def _write_if_ready(descriptor: int, data: bytes) -> int:
    """For a pipe of another user, which cannot be opened again. poll(2) says that ``PIPE_BUF`` bytes fit."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data[: select.PIPE_BUF])


class JsonLines(logging.Formatter):
    """One object per line: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, ``process``, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str | int | None] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)

"""Several single-process servers on one listening socket: forked, replaced when they die, and stopped together.

Hypercorn's own workers all end when one of them is killed.
"""

import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from microblog_rt import metrics
from microblog_rt.server.shutdown import FORCE_SIGNAL, Shutdown
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

Announce = Callable[[Shutdown], None]
Work = Callable[[Announce], None]

READY = b"."
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Supervisor:
    """Keeps ``count`` workers running until it is asked to stop, then kills those left after ``timeout`` seconds.

    ``no_more_starts`` is called when it is asked to stop: no worker is started after that. ``restart``: seconds between
    two starts of one worker.
    """

    def __init__(
        self,
        work: Work,
        count: int,
        timeout: float,
        no_more_starts: Callable[[], None],
        restart: float = Timeouts.worker_restart,
    ) -> None:
        self._work = work
        self._timeout = timeout
        self._restart = restart
        self._no_more_starts = no_more_starts
        self._started: dict[int, float] = {}  # by process id
        self._slots: dict[int, int] = {}  # of the metrics, by process id
        self._free = list(range(1, count + 1))
        self._due = [0.0] * count  # when the missing workers are to be started
        self._ready = 0
        self._stopping: float | None = None
        self._status = 0

    def run(self, announce: Callable[[], None]) -> int:
        """Run until SIGTERM or SIGINT; the exit status. ``announce`` is called once every worker serves."""
        wanted = len(self._due)
        gc.collect()
        gc.freeze()  # the workers share what is there already
        metrics.share(wanted)
        with ExitStack() as stack:
            self._signals = stack.enter_context(_signals())
            self._lifeline = stack.enter_context(_pipe())
            self._ready_pipe = stack.enter_context(_pipe())
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
            selector.register(self._ready_pipe[0], selectors.EVENT_READ, self._on_ready)
            while self._started or self._due:
                self._start_due()
                for key, _ in selector.select(self._pause()):
                    key.data()
                    if self._ready >= wanted:
                        announce()
                        wanted = 2**63  # once
                self._kill_overdue()
        return self._status

    def _start_due(self) -> None:
        now = time.monotonic()
        for _ in [due for due in self._due if due <= now]:
            self._started[self._fork()] = now
        self._due = [due for due in self._due if due > now]

    def _pause(self) -> float | None:
        due = [*self._due] if self._stopping is None else [self._stopping]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _on_signals(self) -> None:
        for number in self._signals.recv(4096):
            if number == signal.SIGCHLD:
                self._reap()
            else:
                self._stop()

    def _on_ready(self) -> None:
        self._ready += len(os.read(self._ready_pipe[0], 4096))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._started:  # as process 1 of a container it gets other processes' children too
                self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, status: int) -> None:
        started = self._started.pop(pid)
        self._free_slot(self._slots.pop(pid))
        if self._stopping is not None:
            self._status = self._status or (1 if status else 0)
        elif not self._ready:
            log.error("worker %s did not start", pid)
            self._status = 1
            self._stop()
        else:
            metrics.REPLACED.count()
            log.warning("worker %s ended with status %s; starting another", pid, status)
            self._due.append(started + self._restart)

    def _free_slot(self, slot: int) -> None:
        metrics.clear(slot)
        self._free.append(slot)

    def _stop(self) -> None:
        """Forward the request to stop; the second time, force it."""
        self._due = []
        self._no_more_starts()
        self._signal(signal.SIGTERM if self._stopping is None else FORCE_SIGNAL)
        self._stopping = self._stopping or time.monotonic() + self._timeout

    def _kill_overdue(self) -> None:
        if self._stopping is not None and self._started and time.monotonic() >= self._stopping:
            log.error("killing workers that did not stop in time")
            self._stopping += self._timeout
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._started:
            os.kill(pid, number)

    def _fork(self) -> int:
        # A signal to stop stays pending until the child has installed its own handlers.
        before = set(signal.pthread_sigmask(signal.SIG_BLOCK, {*HANDLED, FORCE_SIGNAL}))
        slot = self._free.pop()
        pid = os.fork()
        if not pid:
            metrics.work_at(slot)
            self._run_worker(before)
        self._slots[pid] = slot
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _run_worker(self, before: set[int]) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in HANDLED:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor handles a terminal's Ctrl-C
            os.close(self._lifeline[1])
            self._work(lambda shutdown: self._report(shutdown, before))
            status = 0
        except BaseException:
            log.critical("worker failed", exc_info=True)
        finally:
            logging.shutdown()
            os._exit(status)

    def _report(self, shutdown: Shutdown, before: set[int]) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        shutdown.when_readable(self._lifeline[0])  # never written to: readable when the supervisor has died
        os.write(self._ready_pipe[1], READY)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that receives a byte for each signal."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in HANDLED}
    signal.set_wakeup_fd(sender.fileno())
    try:
        with receiver, sender:
            yield receiver
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)

"""Several single-process servers on one listening socket: forked, watched, replaced, ended together.

Hypercorn's own workers all end when one of them is killed. Not here: what a worker does (``server/__init__.py``).
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
from microblog_rt.server.stop import HURRY, Stop

log = logging.getLogger(__name__)

Announce = Callable[[Stop], None]
Work = Callable[[Announce], None]

SOONEST = 1.0  # seconds from one start in a worker's place to the next
READY = b"."
OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Supervisor:
    """Keeps ``count`` workers running until it is told to stop; ``patience``: seconds for them to come to an end.

    ``no_more_starts`` is called once it is told to stop: no worker is started after that.
    """

    def __init__(self, work: Work, count: int, patience: float, no_more_starts: Callable[[], None]) -> None:
        self._work = work
        self._patience = patience
        self._no_more_starts = no_more_starts
        self._started: dict[int, float] = {}  # by process id
        self._places: dict[int, int] = {}  # where each counts
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
            self._word = stack.enter_context(_pipe())
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
            selector.register(self._word[0], selectors.EVENT_READ, self._on_word)
            while self._started or self._due:
                self._start_those_due()
                for key, _ in selector.select(self._pause()):
                    key.data()
                    if self._ready >= wanted:
                        announce()
                        wanted = 2**63  # once
                self._lose_patience()
        return self._status

    def _start_those_due(self) -> None:
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

    def _on_word(self) -> None:
        self._ready += len(os.read(self._word[0], 4096))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._started:  # as the first process of a container it has others' children too
                self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, status: int) -> None:
        started = self._started.pop(pid)
        self._leave(self._places.pop(pid))
        if self._stopping is not None:
            self._status = self._status or (1 if status else 0)
        elif not self._ready:
            log.error("worker %s did not start", pid)
            self._status = 1
            self._stop()
        else:
            metrics.REPLACED.count()
            log.warning("worker %s ended with status %s; another takes its place", pid, status)
            self._due.append(started + SOONEST)

    def _leave(self, place: int) -> None:
        metrics.clear(place)
        self._free.append(place)

    def _stop(self) -> None:
        """Pass the word on; the second time it means now."""
        self._due = []
        self._no_more_starts()
        self._tell(signal.SIGTERM if self._stopping is None else HURRY)
        self._stopping = self._stopping or time.monotonic() + self._patience

    def _lose_patience(self) -> None:
        if self._stopping is not None and self._started and time.monotonic() >= self._stopping:
            log.error("workers that did not come to an end are killed")
            self._stopping += self._patience
            self._tell(signal.SIGKILL)

    def _tell(self, number: signal.Signals) -> None:
        for pid in self._started:
            os.kill(pid, number)

    def _fork(self) -> int:
        # Until the child has handlers of its own, a signal to stop waits.
        before = set(signal.pthread_sigmask(signal.SIG_BLOCK, {*OURS, HURRY}))
        place = self._free.pop()
        pid = os.fork()
        if not pid:
            metrics.work_at(place)
            self._be_a_worker(before)
        self._places[pid] = place
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _be_a_worker(self, before: set[int]) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in OURS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's to hear
            os.close(self._lifeline[1])
            self._work(lambda stop: self._report(stop, before))
            status = 0
        except BaseException:
            log.critical("a worker broke", exc_info=True)
        finally:
            logging.shutdown()
            os._exit(status)

    def _report(self, stop: Stop, before: set[int]) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        stop.when_readable(self._lifeline[0])  # nobody ever writes: it is the end of the supervisor
        os.write(self._word[1], READY)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket with a byte for each signal that came."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in OURS}
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

"""Several single-process servers on shared listening sockets: forked, watched, replaced, and stopped together.

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
from dataclasses import dataclass
from struct import Struct
from typing import NoReturn

from microblog_rt import metrics
from microblog_rt.server import systemd
from microblog_rt.server.shutdown import FORCE_SIGNAL, STOP_SIGNALS, Shutdown, stop_signals
from microblog_rt.timeouts import Timeouts

log = logging.getLogger(__name__)

Announce = Callable[[Shutdown], None]
Work = Callable[[Announce], None]

PROCESS_ID = Struct("=i")
SHORT_LIVES = 6  # in a row, of every worker: something is wrong that a restart of a worker does not cure


@dataclass
class Worker:
    """One of the workers: the process that runs at present, and its predecessors."""

    slot: int  # of the metrics
    pid: int = 0  # 0 if none runs
    due: float = 0.0  # when the next process is to be started
    started: float = 0.0
    ready: bool = False
    short_lives: int = 0  # in a row
    turns: float = 0.0  # of its event loop, at the last check
    checks: int = 0  # in a row that saw no further turn


class Supervisor:
    """Keeps ``count`` workers running until it is asked to stop, then kills those left after ``timeout`` seconds.

    ``no_more_starts`` is called when it is asked to stop: no worker is started after that.
    """

    def __init__(
        self,
        work: Work,
        count: int,
        timeout: float,
        no_more_starts: Callable[[], None],
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        self._work = work
        self._timeout = timeout
        self._timeouts = timeouts
        self._no_more_starts = no_more_starts
        self._workers = [Worker(slot) for slot in range(1, count + 1)]
        self._announced = False
        self._check_at = 0.0
        self._stopping: float | None = None
        self._status = 0

    def run(self, announce: Callable[[], None]) -> int:
        """Run until a signal to stop; the exit status. ``announce`` is called once every worker serves."""
        gc.collect()
        gc.freeze()  # the workers share what is there already
        metrics.share(len(self._workers))
        with ExitStack() as stack:
            self._signals = stack.enter_context(_signals())
            self._lifeline = stack.enter_context(_pipe())
            self._ready_pipe = stack.enter_context(_pipe())
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
            selector.register(self._ready_pipe[0], selectors.EVENT_READ, self._on_ready)
            while self._stopping is None or self._running():
                self._start_due()
                for key, _ in selector.select(self._pause()):
                    key.data()
                if not self._announced and all(worker.ready for worker in self._workers):
                    self._announced = True
                    announce()
                    systemd.notify(systemd.READY)
                self._check()
                self._kill_overdue()
        return self._status

    def _running(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.pid]

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if not worker.pid and worker.due <= now and self._stopping is None:
                worker.started = now
                worker.ready = False
                worker.checks = 0
                worker.pid = self._fork(worker.slot)

    def _pause(self) -> float:
        due = [self._check_at]
        if self._stopping is None:
            due += [worker.due for worker in self._workers if not worker.pid]
        else:
            due.append(self._stopping)
        return max(0.0, min(due) - time.monotonic())

    def _on_signals(self) -> None:
        for number in self._signals.recv(4096):
            if number == signal.SIGCHLD:
                self._reap()
            else:
                self._stop()

    def _on_ready(self) -> None:
        ready = {pid for (pid,) in PROCESS_ID.iter_unpack(os.read(self._ready_pipe[0], 1024 * PROCESS_ID.size))}
        for worker in self._workers:
            worker.ready = worker.ready or worker.pid in ready

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for worker in self._workers:  # as process 1 of a container it gets other processes' children too
                if worker.pid == pid:
                    self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: Worker, status: int) -> None:
        pid, worker.pid, worker.ready = worker.pid, 0, False
        metrics.clear(worker.slot)
        if self._stopping is not None:
            self._status = self._status or (1 if status else 0)
            return
        if not self._announced:
            log.error("worker %s did not start", pid)
            self._fail()
            return
        metrics.REPLACED.count()
        lived = time.monotonic() - worker.started
        worker.short_lives = worker.short_lives + 1 if lived < self._timeouts.worker_short_life else 0
        if all(each.short_lives >= SHORT_LIVES for each in self._workers):
            log.error("every worker ended %s times within %g s", SHORT_LIVES, self._timeouts.worker_short_life)
            self._fail()
            return
        backoff = self._timeouts.worker_restart * 2 ** max(0, worker.short_lives - 1)
        worker.due = worker.started + min(backoff, self._timeouts.worker_restart_max)
        pause = max(0.0, worker.due - time.monotonic())
        log.warning("worker %s ended with status %s; starting another in %.1f s", pid, status, pause)

    def _check(self) -> None:
        """Kill workers whose event loop has stalled.

        Counts checks, not time: if the whole machine was suspended, that is one check.
        """
        if time.monotonic() < self._check_at:
            return
        self._check_at = time.monotonic() + self._timeouts.worker_check
        systemd.notify(systemd.WATCHDOG)
        for worker in self._running() if self._stopping is None else []:
            turns = metrics.TURNS.at(worker.slot)
            worker.checks = 0 if turns != worker.turns else worker.checks + 1
            worker.turns = turns
            limit = self._timeouts.worker_stalled if worker.ready else self._timeouts.worker_start
            if worker.checks * self._timeouts.worker_check >= limit:
                log.error("worker %s stalled: its event loop has not run for %g s; killing it", worker.pid, limit)
                metrics.STALLED.count()
                worker.checks = 0
                os.kill(worker.pid, signal.SIGKILL)

    def _fail(self) -> None:
        self._status = 1
        self._stop()

    def _stop(self) -> None:
        """Forward the request to stop; the second time, force it."""
        self._no_more_starts()
        systemd.notify(systemd.STOPPING)
        self._signal(signal.SIGTERM if self._stopping is None else FORCE_SIGNAL)
        self._stopping = self._stopping or time.monotonic() + self._timeout

    def _kill_overdue(self) -> None:
        if self._stopping is not None and self._running() and time.monotonic() >= self._stopping:
            log.error("killing workers that did not stop in time")
            self._stopping += self._timeout
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._running():
            os.kill(worker.pid, number)

    def _fork(self, slot: int) -> int:
        # A signal to stop stays pending until the child has installed its own handlers.
        before = set(signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP_SIGNALS, signal.SIGCHLD, FORCE_SIGNAL}))
        pid = os.fork()
        if not pid:
            metrics.work_at(slot)
            self._run_worker(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _run_worker(self, before: set[int]) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP):  # the supervisor handles those of a terminal
                signal.signal(number, signal.SIG_IGN)
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
        os.write(self._ready_pipe[1], PROCESS_ID.pack(os.getpid()))


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that receives a byte for each signal."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    handled = [*stop_signals(), signal.SIGCHLD]
    handlers = {number: signal.signal(number, lambda *_: None) for number in handled}
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

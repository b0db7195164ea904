"""Servers forked from a process that has imported the program, since the imports take longer than most tests.

That process reads JSON requests from the socket on its standard input. A request with ``arguments``, ``folder`` and
``environ``, sent with the file descriptors for standard input, output and error, starts a process; the answer is its
process id. The answer to ``reap``, a process id, is the exit status of that process. When the socket is closed, those
that still run are killed. multiprocessing has one fork server for each process, and
``tests/proof/forked_tests.py`` needs one that has not imported the program.
"""

import atexit
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
LOADED = (
    "microblog_rt.app",
    "microblog_rt.server",
    "aiosqlite",
    "alembic.command",
    "argon2",
    "microblog_rt.client_commands",
    "microblog_rt.import_commands",
)

_lock = threading.Lock()


class Forked:
    """A forked ``microblog-rt``, with the part of the interface of `subprocess.Popen` that tests use.

    ``stdio`` are the descriptors of its standard input, output and error.
    """

    def __init__(
        self, arguments: list[str], folder: Path, environ: dict[str, str], stdio: tuple[int, int, int]
    ) -> None:
        request = {"arguments": arguments, "folder": str(folder), "environ": environ}
        self.pid: int = _ask(request, *stdio)
        self._end = os.pidfd_open(self.pid)
        self._status: int | None = None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        return self._wait(0)

    def wait(self, timeout: float) -> int:
        """The exit status; raises `subprocess.TimeoutExpired` after ``timeout`` seconds."""
        status = self._wait(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("microblog-rt", timeout)
        return status

    def _wait(self, timeout: float) -> int | None:
        if self._status is None and select.select([self._end], [], [], timeout)[0]:
            self._status = _ask({"reap": self.pid})
            os.close(self._end)
        return self._status


@cache
def _channel() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen([sys.executable, "-u", "-m", "tests.fork_server"], stdin=theirs.fileno(), cwd=ROOT)

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


def _ask(request: dict[str, Any], *descriptors: int) -> int:
    with _lock:
        socket.send_fds(_channel(), [json.dumps(request).encode()], descriptors)
        answer: int = json.loads(_channel().recv(100))
        return answer


def main() -> None:
    channel = socket.socket(fileno=0)
    for name in LOADED:
        __import__(name)
    _compile_templates()
    running: set[int] = set()
    while True:
        message, descriptors, *_ = socket.recv_fds(channel, 2**17, 3)
        if not message:
            break
        request = json.loads(message)
        if "reap" in request:
            pid, status = os.waitpid(request["reap"], 0)
            running.remove(pid)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                channel.detach()
                _run(request, *descriptors)
            running.add(answer)
        for each in descriptors:
            os.close(each)
        channel.send(json.dumps(answer).encode())
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _compile_templates() -> None:
    from microblog_rt.app import create_app
    from microblog_rt.settings import Settings
    from tests.compiled_templates import compile_all

    compile_all(create_app(Settings(secret_key="for-no-session")))


def _run(request: dict[str, Any], *stdio: int) -> NoReturn:
    from microblog_rt.import_commands import main as command

    os.setpgid(0, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    for number, descriptor in enumerate(stdio):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    random.seed()
    sys.exit(command(request["arguments"], prog_name="microblog-rt"))


if __name__ == "__main__":
    main()

"""The services that several processes share, each a real one that the tests start, hang and end."""

import os
import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType

REDIS = shutil.which("redis-server")
# It ends with the tests, even where those are killed.
BOUND = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
OPTIONS = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


class Redis:
    """One Redis; ``stop`` and ``start`` keep its address, ``pause`` leaves it there without an answer."""

    def __init__(self, folder: Path, *options: str) -> None:
        assert REDIS, "these tests want a Redis: apt-get install redis-server"
        self.port = _port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [*BOUND, REDIS, "--port", str(self.port), "--dir", str(folder), *OPTIONS, *options]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and return once it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                return
            said.append(line)
        self.stop()
        raise AssertionError("".join(said))

    def stop(self) -> None:
        """End it at once, hung or not; with it goes every connection."""
        if self._process is not None:
            with self._process as process:
                process.kill()
            self._process = None

    def pause(self) -> None:
        """From now on connections to it come about, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let it answer, also what was asked meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> "Redis":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.stop()


def _port() -> int:
    """A free one that the system gives to nobody by itself: it stays free while Redis is stopped."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port

"""A server as a user starts it: ``microblog-rt serve`` in a folder of its own, with demo accounts that sign in."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.fork_server import Forked
from tests.http_client import Person as Person
from tests.ports import free_port
from tests.services import BOUND

DEADLINE = 60.0  # seconds; what takes longer has failed

# Tests of the drain or of a limit override these.
UNHURRIED = {"MICROBLOG_DRAIN": "0", "MICROBLOG_SIGN_IN_LIMIT": "", "MICROBLOG_SEND_LIMIT": ""}

COMMAND = [sys.executable, "-m", "microblog_rt"]


class Server:
    """One server process; ``stop`` and ``start`` keep its address and its database."""

    demo = "--demo=accounts"  # without the history, and without the account that answers

    def __init__(self, folder: Path, *options: str, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.environ = UNHURRIED | (environ or {})
        self.url = f"http://127.0.0.1:{self.port}{self.environ.get('MICROBLOG_PATH_PREFIX', '')}"
        self.log = folder / "server.log"
        self.process: Forked | subprocess.Popen[bytes] | None = None
        self.password = ""

    def start(self) -> None:
        """Start it and return once it listens. It is forked, to save the time of its imports."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MICROBLOG_")}
        arguments = ["serve", self.demo, "--bind", f"127.0.0.1:{self.port}", *self.options]
        read, write = os.pipe()
        self._output = os.fdopen(read)
        with self.log.open("a") as log, Path(os.devnull).open() as null:
            stdio = null.fileno(), write, log.fileno()
            self.process = self._launch(arguments, {**clean, **self.environ}, stdio)
        os.close(write)
        serving, accounts = self._output.readline(), self._output.readline()
        assert self.url in serving, self.log.read_text()
        self.password = accounts.split()[-1]

    def _launch(
        self, arguments: list[str], environ: dict[str, str], stdio: tuple[int, int, int]
    ) -> Forked | subprocess.Popen[bytes]:
        return Forked(arguments, self.folder, environ, stdio)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it and return the exit status."""
        self.signal(number)
        return self.ended()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait until it ends and return the exit status."""
        assert self.process is not None
        with self._output:
            return self.process.wait(DEADLINE)

    def workers(self) -> set[int]:
        """The workers of its supervisor."""
        assert self.process is not None
        pid = self.process.pid
        return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def holds(self) -> int:
        """The number of long polls it holds, from its metrics."""
        numbers = httpx.get(f"{self.url}/metrics", timeout=DEADLINE).text
        found = re.search(r'^microblog_tabs{transport="long_poll"} (\d+)', numbers, re.MULTILINE)
        assert found, numbers
        return int(found[1])

    def person(self, name: str) -> Person:
        """A signed-in user with a browser's cookies."""
        return Person(self, name)

    def warnings_logged(self) -> list[str]:
        """Its log lines above INFO."""
        return [line for line in self.logged().splitlines() if " INFO " not in line]

    def logged(self) -> str:
        """Everything it wrote to standard error, without the security log."""
        lines = self.log.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if "microblog_rt.security" not in line)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


class AsgiServer(Server):
    """``microblog_rt.asgi:app`` under Hypercorn as its own program, so without the push edge."""

    def start(self) -> None:
        """Start it and return once it serves; ``microblog-rt serve`` creates the accounts before."""
        super().start()
        super().signal(signal.SIGTERM)
        assert super().ended() == 0
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MICROBLOG_")}
        command = [
            *BOUND,
            sys.executable,
            "-m",
            "hypercorn",
            "microblog_rt.asgi:app",
            "--bind",
            f"127.0.0.1:{self.port}",
        ]
        with self.log.open("a") as log:
            self.hypercorn = subprocess.Popen(
                [*command, "--log-level", "WARNING"], cwd=self.folder, env=clean | self.environ, stderr=log
            )
        until = time.monotonic() + DEADLINE
        while not self._serves():
            assert self.hypercorn.poll() is None, self.log.read_text()
            assert time.monotonic() < until, "not in time"
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        self.hypercorn.send_signal(number)

    def ended(self) -> int:
        return self.hypercorn.wait(DEADLINE)

    def _serves(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=DEADLINE).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self.hypercorn.poll() is None:
            self.stop()

"""One host: ``microblog-rt serve`` with two workers, in a process group of its own, on a fixed port."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.ports import free_port
from tests.server_process import COMMAND
from tests.services import BOUND

AHEAD = 300  # seconds
DEADLINE = 40.0  # seconds for a start or an end
PAUSE = 0.3  # seconds between two attempts to start, as with a service manager
ROOT = Path(__file__).parents[2]
STARTUP = Path(__file__).with_name("startup")  # its sitecustomize.py moves the clock

BEGINNING = re.compile(r"^(?=\d{4}-\d\d-\d\d )", re.MULTILINE)  # of a log record
BAD = re.compile(r"Traceback|never retrieved|database is locked| ERROR | CRITICAL ")

NO_LIMITS = [
    "SIGN_IN_LIMIT",
    "SIGN_IN_GLOBAL_LIMIT",
    "SEND_LIMIT",
    "TABS_PER_USER",
    "TABS_PER_ADDRESS",
    "CONNECTIONS_PER_ADDRESS",
]
UNLIMITED = {f"MICROBLOG_{name}": "" for name in [*NO_LIMITS, "REGISTER_LIMIT"]}


class Host:
    """A supervisor and two workers; ``name`` appears in reports, ``python_path`` selects the build."""

    def __init__(self, name: str, folder: Path, environ: dict[str, str], python_path: Path, *, ahead: bool) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{name}.log"
        self._folder = folder
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MICROBLOG_")}
        self._environ = {
            **clean,
            **UNLIMITED,
            "PYTHONPATH": f"{STARTUP}{os.pathsep}{python_path}{os.pathsep}{ROOT}",
            "PYTHONUNBUFFERED": "1",
            **environ,
        }
        if ahead:
            self._environ["PROOF_AHEAD"] = str(AHEAD)
        self._process: subprocess.Popen[str] | None = None
        self.wanted = True
        self._checked = 0

    def start(self) -> None:
        """Start the host, again while its database is down, and return once it serves."""
        until = time.monotonic() + DEADLINE
        self.wanted = True
        while self.wanted and not self._started():
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(PAUSE)

    def stop(self) -> int:
        """Stop the host with SIGTERM; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._exit_status()

    def kill(self) -> None:
        """Kill all processes of the host with SIGKILL."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._exit_status()

    def close(self) -> None:
        """Kill the host, and do not start it again."""
        self.wanted = False
        if self._process is not None:
            self.kill()

    def workers(self) -> list[int]:
        """The process ids of the current workers."""
        assert self._process is not None
        try:
            pid = self._process.pid
            return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def logged(self) -> str:
        """The whole log."""
        return self.log.read_text()

    def new_errors(self) -> list[str]:
        """The log records since the last call that are errors, with their tracebacks."""
        text = self.logged()
        new, self._checked = text[self._checked :], len(text)
        return [each for each in BEGINNING.split(new) if BAD.search(each)]

    def _started(self) -> bool:
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*BOUND, *COMMAND, "serve", "--workers", "2", "--bind", f"127.0.0.1:{self.port}"],
                cwd=self._folder,
                env=self._environ,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                process_group=0,
            )
        assert self._process.stdout is not None
        if self.url in self._process.stdout.readline():
            return True
        with self._process as failed:  # the log has the reason
            failed.wait(DEADLINE)
        return False

    def _exit_status(self) -> int:
        assert self._process is not None
        with self._process as process:
            return process.wait(DEADLINE)

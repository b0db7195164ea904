"""One host: ``microblog-rt serve`` with its workers, in a process group of its own, on a port that it keeps.

Not here: what two hosts share (``world.py``).
"""

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
PAUSE = 0.3  # seconds, as a service manager leaves between two starts
ROOT = Path(__file__).parents[2]
STARTUP = Path(__file__).with_name("startup")  # its sitecustomize.py moves the clock

BEGINNING = re.compile(r"^(?=\d{4}-\d\d-\d\d )", re.MULTILINE)  # of what was logged at once
BAD = re.compile(r"Traceback|never retrieved|database is locked| ERROR | CRITICAL ")

NO_LIMITS = ["SIGN_IN_LIMIT", "SIGN_IN_GLOBAL_LIMIT", "SEND_LIMIT", "TABS_PER_USER", "TABS_PER_ADDRESS"]
UNLIMITED = {f"MICROBLOG_{name}": "" for name in [*NO_LIMITS, "REGISTER_LIMIT"]}


class Host:
    """A supervisor and two workers; ``name`` is for people, ``python_path`` says which build it runs."""

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
        self._looked_at = 0

    def start(self) -> None:
        """Start it, as often as it takes while its database is away, and return once it serves."""
        until = time.monotonic() + DEADLINE
        self.wanted = True
        while self.wanted and not self._started():
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(PAUSE)

    def stop(self) -> int:
        """Ask it to end, as for an upgrade; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._over()

    def kill(self) -> None:
        """End all its processes at once."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._over()

    def close(self) -> None:
        """End it for good."""
        self.wanted = False
        if self._process is not None:
            self.kill()

    def workers(self) -> list[int]:
        """The processes that serve just now."""
        assert self._process is not None
        try:
            pid = self._process.pid
            return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def logged(self) -> str:
        """What it has written on standard error, ever."""
        return self.log.read_text()

    def complaints(self) -> list[str]:
        """What its log holds since it was last asked that no log may hold, whatever happens; traceback and all."""
        text = self.logged()
        new, self._looked_at = text[self._looked_at :], len(text)
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
        with self._process as refused:  # it has said why in its log
            refused.wait(DEADLINE)
        return False

    def _over(self) -> int:
        assert self._process is not None
        with self._process as process:
            return process.wait(DEADLINE)

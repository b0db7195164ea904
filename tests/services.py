"""Real Redis and PostgreSQL servers that the tests start, pause and stop."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from types import TracebackType

from tests.ports import free_port

REDIS = shutil.which("redis-server")
# It ends with the tests, even if they are killed.
BOUND = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
DEADLINE = 60.0  # seconds
OPTIONS = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


class Redis:
    """One Redis; ``stop`` and ``start`` keep its address, ``pause`` makes it hang."""

    def __init__(self, folder: Path, *options: str) -> None:
        assert REDIS, "these tests want a Redis: apt-get install redis-server"
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [*BOUND, REDIS, "--port", str(self.port), "--dir", str(folder), *OPTIONS, *options]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and return once it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        output = []
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                return
            output.append(line)
        self.stop()
        raise AssertionError("".join(output))

    def stop(self) -> None:
        """Kill it, paused or not; every connection ends."""
        if self._process is not None:
            with self._process as process:
                process.kill()
            self._process = None

    def pause(self) -> None:
        """Make it hang: connections are accepted, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let it continue; it answers pending requests too."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> "Redis":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.stop()


class PostgreSQL:
    """One PostgreSQL; ``stop`` and ``start`` keep address and data, ``pause`` makes it hang.

    ``url`` and what ``database`` returns are SQLAlchemy URLs with asyncpg, for ``postgres`` without a password.
    """

    def __init__(self, *options: str) -> None:
        # Not in the test's own folder, which PostgreSQL, not being root, could not enter.
        self._made = tempfile.TemporaryDirectory(prefix="postgresql-", ignore_cleanup_errors=True)
        self.folder = Path(self._made.name)
        self.port = free_port()
        self._at = f"127.0.0.1:{self.port}"
        self.url = f"postgresql+asyncpg://postgres@{self._at}/postgres"
        self._log = self.folder / "log"
        self._options = ["-p", str(self.port), "-k", str(self.folder), "-c", "fsync=off", *options]
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._prepare()

    def start(self) -> None:
        """Start it and return once it accepts connections."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._as_its_user(), _binary("postgres"), "-D", self.folder / "data", *self._options], stderr=log
            )
        until = time.monotonic() + DEADLINE
        while b"ready to accept connections" not in self._log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise AssertionError(self._log.read_text())
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill it, paused or not; every connection ends."""
        if self._process is not None:
            with self._process as process:
                process.send_signal(signal.SIGQUIT)
                self.resume()
            self._process = None

    def pause(self) -> None:
        """Make it hang: connections are accepted, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)
        for child in self._children():
            _signal(child, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it continue; it answers pending requests too."""
        assert self._process is not None
        for child in self._children():
            _signal(child, signal.SIGCONT)
        self._process.send_signal(signal.SIGCONT)

    def logged(self) -> str:
        """Its output since the last start."""
        return self._log.read_text()

    def backends(self) -> list[int]:
        """Its backend processes, one per connection."""
        return [child for child in self._children() if b" 127.0.0.1(" in _command(child)]

    def execute(self, url: str, sql: str) -> None:
        """Run some SQL in the database of that URL."""
        self._run("psql", url.replace("+asyncpg", ""), "-q", "-v", "ON_ERROR_STOP=1", "-c", sql)

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"db{next(self._numbers)}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return f"postgresql+asyncpg://postgres@{self._at}/{name}"

    def _prepare(self) -> None:
        if _is_root():
            shutil.chown(self.folder, "postgres", "postgres")
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        self._run("initdb", "-D", str(self.folder / "data"), *options)

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as_its_user(), _binary(name), *arguments], capture_output=True, text=True, timeout=60, cwd="/"
        )
        assert done.returncode == 0, done.stderr

    def _as_its_user(self) -> list[str]:
        who = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if _is_root() else []
        return who + BOUND

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        try:
            return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:  # it has ended
            return []

    def __enter__(self) -> "PostgreSQL":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.stop()
        self._made.cleanup()


def _binary(name: str) -> str:
    """One of PostgreSQL's programs, of its newest version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*map(str, versions), os.environ.get("PATH", os.defpath)]))
    assert found, "these tests want a PostgreSQL: apt-get install postgresql"
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    """Signal a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _command(pid: int) -> bytes:
    """The name of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _is_root() -> bool:
    return os.geteuid() == 0

"""Commands of ``microblog-rt``, run in a folder of their own."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryFile

from tests.fork_server import Forked
from tests.server_process import DEADLINE


class Folder:
    """An empty folder to run commands in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.security_log: list[str] = []  # of the last command, which writes it to standard error

    def run(self, *words: str, typed: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a forked process, which saves the time of its imports, and wait for its end."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MICROBLOG_")}
        with TemporaryFile("w+") as stdin, TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
            stdin.write(typed)
            stdin.seek(0)
            stdio = stdin.fileno(), stdout.fileno(), stderr.fileno()
            status = Forked(list(words), self.path, clean | environ, stdio).wait(DEADLINE)
            stdout.seek(0)
            stderr.seek(0)
            lines = stderr.readlines()
            self.security_log = [line for line in lines if " microblog_rt.security: " in line]
            shown = "".join(line for line in lines if line not in self.security_log)
            return subprocess.CompletedProcess(words, status, stdout.read(), shown)

    def refused(self, *words: str, typed: str = "", **environ: str) -> str:
        """What a command says that fails: in a line or so, never a traceback."""
        result = self.run(*words, typed=typed, **environ)
        assert result.returncode == 1, result
        assert "Traceback" not in result.stderr
        assert result.stderr.startswith("Error: ")
        return result.stderr

"""Commands of ``microblog-rt``, run in a folder of their own."""

import os
import subprocess
from pathlib import Path

from tests.server_process import COMMAND, DEADLINE


class Folder:
    """An empty folder to run commands in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.security_log: list[str] = []  # of the last command, which writes it to standard error

    def run(self, *words: str, typed: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MICROBLOG_")}
        result = subprocess.run(
            [*COMMAND, *words],
            cwd=self.path,
            input=typed,
            env=clean | environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        lines = result.stderr.splitlines(keepends=True)
        self.security_log = [line for line in lines if " microblog_rt.security: " in line]
        result.stderr = "".join(line for line in lines if line not in self.security_log)
        return result

    def refused(self, *words: str, typed: str = "", **environ: str) -> str:
        """What a command says that fails: in a line or so, never a traceback."""
        result = self.run(*words, typed=typed, **environ)
        assert result.returncode == 1, result
        assert "Traceback" not in result.stderr
        assert result.stderr.startswith("Error: ")
        return result.stderr

"""The examples of ``docs/recipes/programs.md``, run as they are printed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from microblog_rt import files
from tests.server_process import DEADLINE, Server
from tests.token_users import token_user

PAGE = (files.CHECKOUT / "docs" / "recipes" / "programs.md").read_text()
(DESKTOP,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LISTEN, CI_JOB = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

# In place of ``notify-send``, and of ``jq``, which need not be installed.
NOTIFY = '#!/bin/sh\necho "$@" >> "$SHOWN"\n'
JQ = f'#!{sys.executable}\nimport json, sys\nprint(json.load(sys.stdin)["data"])\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def environ(tmp_path: Path, server: Server) -> dict[str, str]:
    """A PATH with the programs that the examples use; what they show is in the named pipe ``SHOWN``."""
    for name, text in (("notify-send", NOTIFY), ("jq", JQ)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    os.mkfifo(tmp_path / "shown")
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "SHOWN": str(tmp_path / "shown"), "MICROBLOG_URL": server.url}


@pytest.mark.parametrize(
    "command", [[sys.executable, "-c", DESKTOP], ["bash", "-euc", LISTEN]], ids=["python", "shell"]
)
def test_desktop_notice_shows_the_unread_count(server: Server, environ: dict[str, str], command: list[str]) -> None:
    alice, bob = token_user(server), token_user(server)
    alice.send(bob, "hello")
    process = subprocess.Popen(command, env=environ | {"MICROBLOG_TOKEN": bob.token}, start_new_session=True)
    try:
        assert Path(environ["SHOWN"]).read_text() in ("Microblog 1 unread\n", "Microblog 1\n")  # waits for a writer
    finally:
        os.killpg(process.pid, 15)
        process.wait(DEADLINE)


def test_ci_job_sets_a_notification(server: Server, environ: dict[str, str]) -> None:
    alice, bob = token_user(server), token_user(server)
    environ |= {"MICROBLOG_TOKEN": alice.token, "BUILD_ID": "17", "BUILD_USER": bob.name}
    subprocess.run(["bash", "-euc", CI_JOB], env=environ, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE)
    assert bob.state()["build"] == {"build": "17", "passed": True}

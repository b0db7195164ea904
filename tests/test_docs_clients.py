"""Every example of ``docs/clients.md``, run as it is written, in order."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from microblog_rt import files
from tests.server_process import Server
from tests.token_users import TokenUser, token_user

PAGE = (files.CHECKOUT / "docs" / "clients.md").read_text()
SCRIPTS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TOKEN, COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all examples."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def environ(shared: Server) -> dict[str, str]:
    """The environment after the commands that make a token."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MICROBLOG_")}
    clean |= {"PATH": f"{Path(sys.executable).parent}:{clean['PATH']}", "PYTHONUNBUFFERED": "1"}
    script = TOKEN.replace("http://127.0.0.1:8000", shared.url) + "env -0"
    made = subprocess.run(["bash", "-euc", script], cwd=shared.folder, env=clean, capture_output=True, check=True)
    return dict(line.split("=", 1) for line in made.stdout.decode().split("\0") if line)


@pytest.fixture
def alice(shared: Server) -> TokenUser:
    return token_user(shared, name="alice")


@pytest.fixture
def bob(shared: Server, alice: TokenUser) -> TokenUser:
    """The owner of the token, with one message."""
    bob = token_user(shared, name="bob")
    bob.read_all()
    alice.send(bob, "hello")
    return bob


def shell(server: Server, environ: dict[str, str], script: str) -> list[str]:
    """The lines that a shell script prints, up to the first of an endless one."""
    with subprocess.Popen(
        ["bash", "-euc", script],
        cwd=server.folder,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if "stored" in line or (script.startswith("python") and not line.isspace()):
                    break
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    return lines


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_script_prints_what_it_receives(bob: TokenUser, environ: dict[str, str], number: int) -> None:
    (bob.server.folder / "cursor").unlink(missing_ok=True)
    (bob.server.folder / "example.py").write_text(SCRIPTS[number])
    (line,) = shell(bob.server, environ, "python example.py")
    sends = "client.send" in SCRIPTS[number]
    assert line == ("[False, True]\n" if sends else "unread_message_count 1\n")


def test_stored_cursor_is_where_the_script_continues(alice: TokenUser, bob: TokenUser, environ: dict[str, str]) -> None:
    (bob.server.folder / "cursor").unlink(missing_ok=True)
    (script,) = [each for each in SCRIPTS if "stored" in each]
    script = script.replace("new.replace(stored)", "new.replace(stored), exit()")

    def printed() -> str:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, cwd=bob.server.folder, env=environ, capture_output=True, text=True).stdout

    assert printed() == "unread_message_count 1\n"
    stored = float((bob.server.folder / "cursor").read_text())
    alice.send(bob, "hello")
    assert printed() == "unread_message_count 2\n"
    assert float((bob.server.folder / "cursor").read_text()) > stored


def test_commands_print_what_the_page_says(shared: Server, environ: dict[str, str]) -> None:
    lines = shell(shared, environ, COMMANDS)
    assert lines[0].split() == ["server", shared.url]
    assert lines[1].startswith("account    bob, ")
    assert lines[-1] == "stored\n"
    assert '"passed": true' in (shared.folder / "build.json").read_text()

"""Every example of ``docs/clients.md``, run as it is written, in order."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from microblog_rt import files
from tests.command_line import Folder
from tests.server_process import Server

PAGE = (files.CHECKOUT / "docs" / "clients.md").read_text()
SCRIPTS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TOKEN, COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def shell(server: Server, script: str) -> list[str]:
    """The lines that a shell script prints after the commands that make a token, up to the first of an endless one."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MICROBLOG_")}
    path = f"{Path(sys.executable).parent}:{clean['PATH']}"
    token = TOKEN.replace("http://127.0.0.1:8000", server.url)
    with subprocess.Popen(
        ["bash", "-euc", token + script],
        cwd=server.folder,
        env=clean | {"PATH": path, "PYTHONUNBUFFERED": "1"},
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
def test_script_prints_what_it_receives(server: Server, folder: Folder, number: int) -> None:
    folder.run("send", "bob", "hello", "--from", "alice")
    (server.folder / "example.py").write_text(SCRIPTS[number])
    (line,) = shell(server, "python example.py")
    sends = "client.send" in SCRIPTS[number]
    assert line == ("[False, True]\n" if sends else "unread_message_count 1\n")


def test_stored_cursor_is_where_the_script_continues(server: Server, folder: Folder) -> None:
    (script,) = [each for each in SCRIPTS if "stored" in each]
    (server.folder / "example.py").write_text(script.replace("repr(client.cursor))", "repr(client.cursor)), exit()"))
    for number in (1, 2):
        folder.run("send", "bob", "hello", "--from", "alice")
        assert shell(server, "python example.py") == [f"unread_message_count {number}\n"]


def test_commands_print_what_the_page_says(server: Server, folder: Folder) -> None:
    lines = shell(server, COMMANDS)
    assert lines[0].split() == ["server", server.url]
    assert lines[1].startswith("account    bob, ")
    assert lines[-1] == "stored\n"
    assert '"passed": true' in (server.folder / "build.json").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)

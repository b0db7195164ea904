"""The commands listen, send, notify and status, and their exit statuses."""

import json
import os
import pty
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from microblog_rt.client_commands import main
from microblog_rt.models import SCOPES
from tests import api_double
from tests.command_line import Folder
from tests.fork_server import Forked
from tests.ports import free_port
from tests.server_process import COMMAND, DEADLINE, Person, Server

PRIVATE = "very-private-token"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def api() -> Iterator[api_double.Api]:
    with api_double.serving() as api:
        yield api


@pytest.fixture
def alice(server: Server) -> Iterator[Person]:
    alice = server.person("alice")
    yield alice
    alice.close()


@pytest.fixture
def of_bob(server: Server, folder: Folder) -> dict[str, str]:
    """The environment of bob's commands."""
    scopes = [word for scope in SCOPES for word in ("--scope", scope)]
    token = folder.run("token", "add", "bob", *scopes).stdout.strip()
    return {"MICROBLOG_URL": server.url, "MICROBLOG_TOKEN": token}


class Listening:
    """A running ``microblog-rt listen``; ``errors`` is the file of its standard error."""

    def __init__(self, folder: Path, options: tuple[str, ...], environ: dict[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MICROBLOG_")}
        self.errors = folder / "errors"
        read, write = os.pipe()
        self.output = os.fdopen(read)
        with self.errors.open("w") as errors, Path(os.devnull).open() as null:
            stdio = null.fileno(), write, errors.fileno()
            self.process = Forked(["listen", *options], folder, clean | environ, stdio)
        os.close(write)

    def line(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.output.readline())
        return shown


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[..., Listening]]:
    """Starts ``microblog-rt listen`` with options and an environment."""
    started: list[Listening] = []

    def listen(*options: str, **environ: str) -> Listening:
        started.append(Listening(tmp_path, options, environ))
        return started[-1]

    yield listen
    for each in started:
        each.process.send_signal(signal.SIGKILL)
        each.process.wait(DEADLINE)
        each.output.close()


@pytest.mark.parametrize("transport", ["websocket", "longpoll"])
def test_listen_prints_json_lines_until_interrupted(
    alice: Person, of_bob: dict[str, str], transport: str, listening: Callable[..., Listening]
) -> None:
    alice.send("bob", "one")
    bob = listening("--transport", transport, **of_bob)
    first = bob.line()
    assert (list(first), first["data"]) == (["name", "data", "timestamp"], 1)
    alice.send("bob", "two")
    assert bob.line()["data"] == 2
    bob.process.send_signal(signal.SIGINT)
    assert bob.process.wait(DEADLINE) == 130
    assert bob.errors.read_text() == "", "no progress without a terminal"


def test_listen_continues_after_since_and_selects_names(
    alice: Person, of_bob: dict[str, str], listening: Callable[..., Listening]
) -> None:
    alice.send("bob", "one")
    cursor = listening(**of_bob).line()["timestamp"]
    bob = listening("--since", repr(cursor), "--name", "unread_message_count", **of_bob)
    alice.send("bob", "two")
    assert bob.line()["data"] == 2


def test_listen_passes_each_notification_to_a_command(
    alice: Person, of_bob: dict[str, str], tmp_path: Path, listening: Callable[..., Listening]
) -> None:
    alice.send("bob", "one")
    bob = listening("--exec", "cat >> seen; echo done", **of_bob)
    first = bob.line()
    assert bob.output.readline() == "done\n"
    assert json.loads((tmp_path / "seen").read_text()) == first


def test_listen_ends_when_the_token_is_revoked(
    alice: Person, folder: Folder, of_bob: dict[str, str], listening: Callable[..., Listening]
) -> None:
    alice.send("bob", "one")
    bob = listening(**of_bob)
    bob.line()
    number = folder.run("token", "list", "bob").stdout.split("\t")[0]
    assert folder.run("token", "revoke", number).returncode == 0
    assert bob.process.wait(DEADLINE) == 3
    assert bob.errors.read_text().startswith("Error: ")


@pytest.mark.parametrize("no_color", [False, True])
def test_terminal_shows_colours_unless_they_are_unwanted(alice: Person, of_bob: dict[str, str], no_color: bool) -> None:
    alice.send("bob", "one")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(of_bob)
        if no_color:
            os.environ["NO_COLOR"] = "1"
        os.execvp(COMMAND[0], [*COMMAND, "listen"])
    shown = b""
    while b'"timestamp"' not in shown or b"connected by websocket" not in shown:
        shown += os.read(terminal, 1024)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert (b"\x1b[" in shown) != no_color


def test_exit_status_tells_why_a_command_failed(folder: Folder, server: Server, api: api_double.Api) -> None:
    def status(*words: str, url: str = server.url, token: str = PRIVATE) -> int:
        result = folder.run(*words, MICROBLOG_URL=url, MICROBLOG_TOKEN=token)
        assert "Traceback" not in result.stderr
        assert PRIVATE not in result.stdout + result.stderr + "".join(folder.security_log)
        return result.returncode

    assert status("listen") == 3
    assert status("status") == 3
    assert status("send", "bob", "hello", url=api.url) == 3
    assert status("notify", "bob", "build", "not JSON") == 2
    assert status("listen", "--since", "-1") == 2
    assert status("listen", "--since", "nan") == 2
    assert status("listen", url="localhost:8000") == 2
    assert status("listen", token="") == 2
    assert status("listen", token="two words") == 2
    assert status("send", "bob", "hello", "--from", "alice", url=api.url) == 2
    assert status("status", url=f"http://127.0.0.1:{free_port()}") == 4


def test_status_tells_which_transports_work(folder: Folder, of_bob: dict[str, str]) -> None:
    result = folder.run("status", **of_bob)
    lines = dict(each.split(maxsplit=1) for each in result.stdout.splitlines())
    assert result.returncode == 0
    assert lines["server"] == of_bob["MICROBLOG_URL"]
    assert lines["account"] == f"bob, token 'command line': {', '.join(SCOPES)}"
    for transport in ("websocket", "longpoll", "poll"):
        assert lines[transport].startswith("works, "), result.stdout


def test_status_tells_why_a_transport_fails(folder: Folder, api: api_double.Api) -> None:
    result = folder.run("status", "--url", api.url, "--token", api_double.TOKEN)
    lines = dict(each.split(maxsplit=1) for each in result.stdout.splitlines())
    assert result.returncode == 0
    assert lines["sse"].startswith("works, ")
    assert lines["poll"] == "fails: HTTP 404"


def test_send_and_notify_with_a_token(alice: Person, folder: Folder, of_bob: dict[str, str]) -> None:
    assert folder.run("send", "alice", "hello", **of_bob).returncode == 0
    assert folder.run("notify", "alice", "build", '{"passed": true}', **of_bob).returncode == 0
    found = {each["name"]: each["data"] for each in alice.client.get("/notifications").json()}
    assert found == {"unread_message_count": 1, "build": {"passed": True}}
    assert "no user called john" in folder.refused("send", "john", "hello", **of_bob)


def test_send_and_notify_in_the_database(server: Server, folder: Folder) -> None:
    assert folder.run("send", "bob", "hello", "--from", "alice").returncode == 0
    assert folder.run("notify", "bob", "build", "[1]").returncode == 0
    bob = server.person("bob")
    found = {each["name"]: each["data"] for each in bob.client.get("/notifications").json()}
    assert found == {"unread_message_count": 1, "build": [1]}
    bob.close()
    assert "no user called john" in folder.refused("notify", "john", "build", "1")
    assert "unread_" in folder.refused("notify", "bob", "unread_x", "1"), "a name of the application"
    assert folder.run("send", "bob", "hello").returncode == 2


@pytest.mark.parametrize("command", ["listen", "status"])
def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setitem(sys.modules, "microblog_rt.client", None)
    result = CliRunner().invoke(main, [command, "--url", "http://localhost", "--token", "x"])
    assert result.exit_code == 1
    assert "microblog-rt[client]" in result.output


def test_settings_of_the_client_are_known_to_the_server(folder: Folder) -> None:
    result = folder.run("db", "current", MICROBLOG_URL="http://localhost", MICROBLOG_TOKEN="x")
    assert "Warning" not in result.stderr

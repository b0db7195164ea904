"""The commands listen, send, notify and status, and their exit statuses."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from microblog_rt.client.events import BEST_FIRST
from microblog_rt.client_commands import main
from microblog_rt.models import SCOPES
from tests import site_tokens
from tests.browser.proxy import Proxy
from tests.command_line import Folder
from tests.fork_server import Forked
from tests.ports import free_port
from tests.server_process import DEADLINE, Server
from tests.token_users import BUS, TokenUser, token_user

PRIVATE = "very-private-token"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests. It notices at once what the commands change in its database."""
    with Server(tmp_path_factory.mktemp("server"), environ=BUS) as server:
        yield server
    assert server.logged() == ""


@pytest.fixture
def folder(shared: Server) -> Folder:
    return Folder(shared.folder)


@pytest.fixture
def alice(shared: Server) -> TokenUser:
    return token_user(shared)


@pytest.fixture
def bob(shared: Server) -> TokenUser:
    return token_user(shared)


@pytest.fixture
def of_bob(bob: TokenUser) -> dict[str, str]:
    """The environment of bob's commands."""
    return {"MICROBLOG_URL": bob.server.url, "MICROBLOG_TOKEN": bob.token}


class Listening:
    """A running ``microblog-rt listen`` in ``folder``; ``errors`` is the file of its standard error."""

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


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
def test_listen_prints_json_lines_until_interrupted(
    alice: TokenUser, bob: TokenUser, of_bob: dict[str, str], transport: str, listening: Callable[..., Listening]
) -> None:
    alice.send(bob, "one")
    command = listening("--transport", transport, **of_bob)
    first = command.line()
    assert (list(first), first["data"]) == (["name", "data", "timestamp"], 1)
    alice.send(bob, "two")
    assert command.line()["data"] == 2
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(DEADLINE) == 130
    assert command.errors.read_text() == "", "no progress without a terminal"


def test_listen_continues_after_since_and_selects_names(
    alice: TokenUser, bob: TokenUser, of_bob: dict[str, str], listening: Callable[..., Listening]
) -> None:
    alice.send(bob, "one")
    cursor = listening(**of_bob).line()["timestamp"]
    command = listening("--since", repr(cursor), "--name", "unread_message_count", **of_bob)
    alice.send(bob, "two")
    assert command.line()["data"] == 2


def test_listen_passes_each_notification_to_a_command(
    alice: TokenUser, bob: TokenUser, of_bob: dict[str, str], tmp_path: Path, listening: Callable[..., Listening]
) -> None:
    alice.send(bob, "one")
    command = listening("--exec", "cat >> seen; echo done", **of_bob)
    first = command.line()
    assert command.output.readline() == "done\n"
    assert json.loads((tmp_path / "seen").read_text()) == first


def test_full_disk_ends_listen_with_one_line(
    alice: TokenUser, bob: TokenUser, of_bob: dict[str, str], tmp_path: Path
) -> None:
    alice.send(bob, "one")
    errors = tmp_path / "errors"
    with Path(os.devnull).open() as null, Path("/dev/full").open("w") as full, errors.open("w") as shown:
        command = Forked(["listen"], tmp_path, of_bob, (null.fileno(), full.fileno(), shown.fileno()))
        assert command.wait(DEADLINE) == 1
    assert errors.read_text() == "Error: cannot write the output: No space left on device\n"


def test_reader_that_goes_away_ends_listen_silently(
    alice: TokenUser, bob: TokenUser, of_bob: dict[str, str], listening: Callable[..., Listening]
) -> None:
    """As ``listen | head -1``, at the next notification."""
    alice.send(bob, "one")
    command = listening(**of_bob)
    command.line()
    command.output.close()
    alice.send(bob, "two")
    assert command.process.wait(DEADLINE) == 1
    assert command.errors.read_text() == ""


def test_listen_ends_when_the_token_is_revoked(
    alice: TokenUser, bob: TokenUser, folder: Folder, of_bob: dict[str, str], listening: Callable[..., Listening]
) -> None:
    alice.send(bob, "one")
    command = listening(**of_bob)
    command.line()
    number = folder.run("token", "list", bob.name).stdout.split("\t")[0]
    assert folder.run("token", "revoke", number).returncode == 0
    assert command.process.wait(DEADLINE) == 3
    assert command.errors.read_text().startswith("Error: ")


@pytest.mark.parametrize("no_color", [False, True])
def test_terminal_shows_colours_unless_they_are_unwanted(
    alice: TokenUser, bob: TokenUser, of_bob: dict[str, str], tmp_path: Path, no_color: bool
) -> None:
    alice.send(bob, "one")
    terminal, end = pty.openpty()
    environ = of_bob | ({"NO_COLOR": "1"} if no_color else {})
    command = Forked(["listen"], tmp_path, environ, (end, end, end))
    os.close(end)
    shown = b""
    while b'"timestamp"' not in shown or b"connected by websocket" not in shown:
        shown += os.read(terminal, 1024)
    command.send_signal(signal.SIGKILL)
    command.wait(DEADLINE)
    os.close(terminal)
    assert (b"\x1b[" in shown) != no_color


def test_exit_status_tells_why_a_command_failed(shared: Server, caplog: pytest.LogCaptureFixture) -> None:
    def status(*words: str, url: str = shared.url, token: str = PRIVATE) -> int:
        result = CliRunner().invoke(main, words, env={"MICROBLOG_URL": url, "MICROBLOG_TOKEN": token})
        assert isinstance(result.exception, SystemExit), result.output
        assert PRIVATE not in result.output + caplog.text
        return result.exit_code

    assert status("listen") == 3
    assert status("status") == 3
    assert status("send", "bob", "hello") == 3
    assert status("notify", "bob", "build", "not JSON") == 2
    assert status("listen", "--since", "-1") == 2
    assert status("listen", "--since", "nan") == 2
    assert status("listen", url="localhost:8000") == 2
    assert status("status", url="http://localhost:99999") == 2
    assert status("notify", "bob", "build", "NaN") == 2
    assert status("listen", token="") == 2
    assert status("listen", token="two words") == 2
    assert status("send", "bob", "hello", "--from", "alice") == 2
    assert status("status", url=f"http://127.0.0.1:{free_port()}") == 4


def test_status_tells_which_transports_work(bob: TokenUser, folder: Folder, of_bob: dict[str, str]) -> None:
    result = folder.run("status", **of_bob)
    lines = dict(each.split(maxsplit=1) for each in result.stdout.splitlines())
    assert result.returncode == 0
    assert lines["server"] == bob.server.url
    assert lines["account"] == f"{bob.name}, token 'test': {', '.join(SCOPES)}"
    for transport in BEST_FIRST:
        assert lines[transport].startswith("works, "), result.stdout


def test_status_names_the_user_of_a_signed_token(tmp_path: Path) -> None:
    with Server(tmp_path, environ={"MICROBLOG_JWT_KEY": site_tokens.SECRET}) as server:
        token = site_tokens.signed("maria", aud=None, scope="notifications:read")
        result = Folder(tmp_path).run("status", MICROBLOG_URL=server.url, MICROBLOG_TOKEN=token)
    lines = dict(each.split(maxsplit=1) for each in result.stdout.splitlines())
    assert lines["account"] == "maria, a signed token (JWT)", result.stderr
    assert result.returncode == 0
    assert lines["websocket"].startswith("works, ")


def test_invalid_text_is_no_wrong_usage(of_bob: dict[str, str]) -> None:
    """An argument that is not UTF-8, as Python decodes it."""
    result = CliRunner().invoke(main, ["send", "alice", "\udcff"], env=of_bob)
    assert result.exit_code == 1
    assert "must be UTF-8" in result.output


async def test_status_tells_why_a_transport_fails(shared: Server, folder: Folder, of_bob: dict[str, str]) -> None:
    async with Proxy(shared.port) as proxy:
        proxy.refuses = {"websocket", "long poll"}
        environ = of_bob | {"MICROBLOG_URL": proxy.url}
        result = await asyncio.to_thread(partial(folder.run, "status", **environ))
    lines = dict(each.split(maxsplit=1) for each in result.stdout.splitlines())
    assert result.returncode == 0
    assert lines["websocket"] == lines["longpoll"] == "fails: HTTP 502"
    assert lines["sse"].startswith("works, ")
    assert lines["poll"].startswith("works, ")


def test_send_and_notify_with_a_token(alice: TokenUser, folder: Folder, of_bob: dict[str, str]) -> None:
    assert folder.run("send", alice.name, "hello", **of_bob).returncode == 0
    assert folder.run("notify", alice.name, "build", '{"passed": true}', **of_bob).returncode == 0
    assert alice.state() == {"unread_message_count": 1, "build": {"passed": True}}
    assert "no user called john" in folder.refused("send", "john", "hello", **of_bob)


def test_send_and_notify_in_the_database(alice: TokenUser, bob: TokenUser, folder: Folder) -> None:
    assert folder.run("send", bob.name, "hello", "--from", alice.name).returncode == 0
    assert folder.run("notify", bob.name, "build", "[1]").returncode == 0
    assert bob.state() == {"unread_message_count": 1, "build": [1]}
    assert "no user called john" in folder.refused("notify", "john", "build", "1")
    assert "unread_" in folder.refused("notify", bob.name, "unread_x", "1"), "a name of the application"
    assert folder.run("send", bob.name, "hello").returncode == 2


@pytest.mark.parametrize("command", ["listen", "status"])
def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setitem(sys.modules, "microblog_rt.client", None)
    result = CliRunner().invoke(main, [command, "--url", "http://localhost", "--token", "x"])
    assert result.exit_code == 1
    assert "microblog-rt[client]" in result.output


def test_settings_of_the_client_are_known_to_the_server(folder: Folder) -> None:
    result = folder.run("db", "current", MICROBLOG_URL="http://localhost", MICROBLOG_TOKEN="x")
    assert "Warning" not in result.stderr

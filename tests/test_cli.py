"""The command line, run as a process in an empty folder."""

import os
import pty
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from microblog_rt import files
from microblog_rt.__main__ import main as entry_point
from microblog_rt.storage import migrations
from microblog_rt.web import static_files
from tests.command_line import Folder
from tests.ports import free_port
from tests.server_process import COMMAND, DEADLINE, Server


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


OTHER = {"MICROBLOG_DATABASE_URL": "sqlite+aiosqlite:///other.db", "MICROBLOG_SECRET_KEY": "0123456789abcdef"}


def test_user_add_reads_password_from_stdin(folder: Folder) -> None:
    result = folder.run("user", "add", "susan", "--email", "susan@example.org", typed="a good password\n")
    assert (result.returncode, result.stdout, result.stderr) == (0, "susan can sign in.\n", "")
    assert "taken" in folder.refused("user", "add", "Susan", typed="a good password\n")
    assert "looks like that of another account" in folder.refused("user", "add", "ѕusan", typed="a good password\n")
    assert "reserved" in folder.refused("user", "add", "admin", typed="a good password\n")
    assert "2 to 64" in folder.refused("user", "add", "1st", typed="a good password\n")
    assert "8 to 1024" in folder.refused("user", "add", "john", typed="short\n")
    assert "no password" in folder.refused("user", "add", "john")


def test_password_prompt_in_a_terminal_is_hidden(folder: Folder) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder.path)
        os.execvp(COMMAND[0], [*COMMAND, "user", "add", "susan"])
    shown = b""
    for question in (b"Password: ", b"Repeat for confirmation: "):
        while not shown.endswith(question):
            shown += os.read(terminal, 1024)
        os.write(terminal, b"a good password\n")
    try:
        while more := os.read(terminal, 1024):
            shown += more
    except OSError:  # how Linux reports that the other end is closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"susan can sign in." in shown
    assert b"a good password" not in shown


def test_user_password_replaces_password(folder: Folder) -> None:
    folder.run("user", "add", "susan", typed="a good password\n")
    result = folder.run("user", "password", "susan", typed="another password\n")
    assert "new password" in result.stdout
    assert "no user called john" in folder.refused("user", "password", "john", typed="a good password\n")


def test_common_password_is_refused(folder: Folder) -> None:
    assert "most common passwords" in folder.refused("user", "add", "susan", typed="password1\n")


def test_disable_and_enable_account_while_server_runs(tmp_path: Path, folder: Folder) -> None:
    with Server(tmp_path) as server:
        bob = server.person("bob")
        assert bob.client.get("/notifications").status_code == 200
        assert "bob is disabled" in folder.run("user", "disable", "bob").stdout
        assert bob.client.get("/notifications").status_code == 401
        answer = bob.post("/auth/login", username="bob", password=server.password)
        assert "This account is disabled." in answer.text
        assert "bob can sign in" in folder.run("user", "enable", "bob").stdout
        assert bob.post("/auth/login", username="bob", password=server.password).status_code == 303
        bob.close()
    for word in ("disable", "enable"):
        assert "no user called john" in folder.refused("user", word, "john")


def test_messages_of_an_account_are_withdrawn_while_server_runs(tmp_path: Path, folder: Folder) -> None:
    with Server(tmp_path) as server:
        alice, bob = server.person("alice"), server.person("bob")
        for text in ("one", "two"):
            alice.send("bob", text)
        assert "Deleted 2 messages that alice had sent." in folder.run("user", "withdraw", "alice").stdout
        (notification,) = bob.client.get("/notifications").json()
        assert (notification["name"], notification["data"]) == ("unread_message_count", 0)
        assert "No messages yet" in bob.client.get("/messages").text
        for person in (alice, bob):
            person.close()
    assert "no user called john" in folder.refused("user", "withdraw", "john")


def test_secret_key_is_created_once_and_private(tmp_path: Path) -> None:
    passwords = []
    for _ in range(2):
        with Server(tmp_path) as server:
            passwords.append(server.password)
    key = tmp_path / "microblog.db.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_text()) >= 32
    assert passwords[0] == passwords[1]
    assert sorted(each.name for each in tmp_path.iterdir() if "key" in each.name) == ["microblog.db.key"]


def test_empty_secret_key_is_rejected(folder: Folder) -> None:
    (folder.path / "microblog.db.key").write_text("\n")
    (folder.path / "microblog.db.key").chmod(0o600)
    assert "microblog.db.key" in folder.refused("serve", "--bind", f"127.0.0.1:{free_port()}")


def test_db_current_creates_no_database(folder: Folder) -> None:
    assert folder.run("db", "current").stdout.startswith("empty ")
    folder.refused("serve", **OTHER)
    assert list(folder.path.iterdir()) == []


def test_only_the_default_database_is_migrated_at_start(folder: Folder) -> None:
    output = folder.refused("serve", **OTHER)
    assert "microblog-rt db upgrade" in output
    newest = migrations.head()
    assert f"empty (newest: {newest})" in folder.run("db", "current", **OTHER).stdout
    assert f"at {newest}" in folder.run("db", "upgrade", **OTHER).stdout
    assert f"at {newest}" in folder.run("db", "upgrade", **OTHER).stdout
    assert folder.run("db", "current", **OTHER).stdout.startswith(f"{newest} ")
    assert folder.run("user", "add", "susan", typed="a good password\n", **OTHER).returncode == 0


def test_database_of_a_newer_program_is_refused(folder: Folder) -> None:
    folder.run("db", "upgrade")
    with sqlite3.connect(folder.path / "microblog.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    for words in (["serve"], ["db", "upgrade"], ["user", "add", "susan"]):
        assert "newer microblog-rt" in folder.refused(*words, typed="a good password\n")


def test_file_that_is_no_database_is_refused_and_unchanged(folder: Folder) -> None:
    (folder.path / "microblog.db").write_text("a shopping list, quite long enough to look like something else\n" * 20)
    assert "microblog.db" in folder.refused("serve")
    assert (folder.path / "microblog.db").read_text().startswith("a shopping list")


def test_missing_folder_is_reported(folder: Folder) -> None:
    url = "sqlite+aiosqlite:///no/such/folder/microblog.db"
    assert "no/such/folder" in folder.refused("db", "upgrade", MICROBLOG_DATABASE_URL=url)


def test_invalid_setting_is_named_at_start(folder: Folder) -> None:
    assert "MICROBLOG_SWEEP" in folder.refused("serve", MICROBLOG_SWEEP="never")
    assert "MICROBLOG_BUS_URL" in folder.refused("db", "current", MICROBLOG_BUS_URL="kafka://")


def test_misspelt_setting_is_warned_about(folder: Folder) -> None:
    result = folder.run("db", "current", MICROBLOG_SWEEEP="5")
    assert "MICROBLOG_SWEEEP" in result.stderr
    assert result.returncode == 0


def test_port_in_use_is_reported(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        output = folder.refused("serve", "--bind", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "the port is in use" in output


@pytest.mark.parametrize("bind", ["8000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ":8000"])
def test_invalid_bind_address_is_reported(folder: Folder, bind: str) -> None:
    assert "HOST:PORT" in folder.refused("serve", "--bind", bind)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.org"])
def test_demo_requires_loopback(folder: Folder, host: str) -> None:
    assert "loopback" in folder.refused("serve", "--demo", "--bind", f"{host}:{free_port()}")
    assert not (folder.path / "microblog.db").exists()


def test_demo_keeps_an_existing_account(folder: Folder) -> None:
    folder.run("user", "add", "alice", typed="her own password\n")
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "serve", "--demo", "--bind", f"127.0.0.1:{port}"],
        cwd=folder.path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    output = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    with process:
        assert process.wait(DEADLINE) == 0
    assert output[1].startswith("Demo accounts: bob, password demo-")
    assert "alice" in output[2]
    assert "was not changed" in output[2]


def test_serves_on_ipv6(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "serve", "--bind", f"[::1]:{port}"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert f"http://[::1]:{port}" in process.stdout.readline()
    process.terminate()
    with process:
        assert process.wait(DEADLINE) == 0


def test_shell_offers_models_and_a_session(folder: Folder) -> None:
    folder.run("user", "add", "susan", typed="a good password\n")
    typed = (
        "people = (await session.execute(select(User))).scalars().all()\n"
        "print([person.username for person in people])\n"
        "await messages.send_message(1, 1, 'from the shell')\n"
        "print(await feed.page('nonsense', 0))\n"
        "print('still here')\n"
    )
    result = folder.run("shell", typed=typed)
    assert "['susan']" in result.stdout
    assert "True" in result.stdout
    assert "AttributeError" in result.stderr
    assert "still here" in result.stdout
    assert result.returncode == 0


def test_help_and_version_are_printed(folder: Folder) -> None:
    assert "serve" in folder.run("--help").stdout
    assert "microblog-rt, version" in folder.run("--version").stdout


def test_migration_with_a_broken_reference_is_refused(folder: Folder) -> None:
    folder.run("db", "upgrade")
    url = f"sqlite+aiosqlite:///{folder.path}/microblog.db"
    with sqlite3.connect(folder.path / "microblog.db") as database:
        database.execute("INSERT INTO session VALUES ('x', 999, 1, 0, 0, 0, '')")
    database.close()
    from microblog_rt.errors import Misconfigured

    with pytest.raises(Misconfigured, match="references"):
        migrations.upgrade(url)


def test_static_files_are_copied_for_a_proxy(folder: Folder) -> None:
    """Again and beside an older version; readable by the proxy whatever the umask."""
    (folder.path / "www" / "older").mkdir(parents=True)
    for _ in range(2):
        result = folder.run("static", "www")
        assert (result.returncode, result.stderr) == (0, "")
    copied = folder.path / "www" / static_files.current_version()
    assert result.stdout == f"The static files are in www/{copied.name}.\n"
    assert {each.name for each in (folder.path / "www").iterdir()} == {"older", copied.name}
    assert (copied / "rt" / "main.js").read_bytes() == (files.STATIC / "rt" / "main.js").read_bytes()
    assert stat.S_IMODE((copied / "rt").stat().st_mode) == 0o755
    assert stat.S_IMODE((copied / "rt" / "main.js").stat().st_mode) == 0o644
    (folder.path / "file").touch()
    assert "cannot copy" in folder.refused("static", "file/www")


def test_interrupt_during_the_imports_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Importing:
        def __getattr__(self, name: str) -> NoReturn:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "microblog_rt.import_commands", Importing())
    with pytest.raises(SystemExit) as ended:
        entry_point()
    assert ended.value.code == 130

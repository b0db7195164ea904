"""The commands ``user list``, ``user sessions``, ``user email`` and ``invite``, on both databases."""

import re
from pathlib import Path

import httpx
import pytest

from tests.command_line import Folder
from tests.server_process import Server

INVITE = {"MICROBLOG_REGISTRATION": "invite"}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_users_are_listed(folder: Folder, database_environ: dict[str, str]) -> None:
    for name, options in (("list_susan", ["--email", "susan@example.org"]), ("list_john", [])):
        folder.run("user", "add", name, *options, typed="a good password\n", **database_environ)
    folder.run("user", "disable", "list_john", **database_environ)
    result = folder.run("user", "list", **database_environ)
    assert result.returncode == 0
    lines = [line.split("\t") for line in result.stdout.splitlines() if line.startswith("list_")]
    day = r"since \d{4}-\d\d-\d\d \d\d:\d\d"
    assert [[re.sub(day, "since", each) for each in line] for line in lines] == [
        ["list_john", "since", "no email address", "disabled"],
        ["list_susan", "since", "susan@example.org"],
    ]


def test_sessions_are_listed_and_ended(tmp_path: Path, folder: Folder, database_environ: dict[str, str]) -> None:
    with Server(tmp_path, environ=database_environ) as server:
        bob = server.person("bob")
        listed = folder.run("user", "sessions", "bob", **database_environ).stdout
        assert re.fullmatch(r"[0-9a-f]{16}\tpython-httpx/\S+\tcreated .+\tlast used .+\texpires .+\n", listed)
        ended = folder.run("user", "sessions", "bob", "--end", **database_environ).stdout
        assert ended == "All sessions of bob have ended.\n"
        assert bob.client.get("/notifications").status_code == 401
        bob.close()
    assert folder.run("user", "sessions", "bob", **database_environ).stdout == ""
    assert "no user called nobody" in folder.refused("user", "sessions", "nobody", **database_environ)


def test_address_is_shown_set_and_removed(folder: Folder, database_environ: dict[str, str]) -> None:
    folder.run("user", "add", "mail_user", typed="a good password\n", **database_environ)

    def run(*words: str) -> str:
        return folder.run("user", "email", "mail_user", *words, **database_environ).stdout

    assert run() == "mail_user has no email address.\n"
    assert run("m@example.org") == "mail_user has the email address m@example.org now.\n"
    assert run() == "m@example.org\n"
    wrong = folder.refused("user", "email", "mail_user", "a@example.org\nBcc: b@example.org", **database_environ)
    assert "not a valid email address" in wrong
    assert run("--remove") == "mail_user has no email address now.\n"
    assert "either" in folder.refused("user", "email", "mail_user", "m@example.org", "--remove", **database_environ)


def test_invitation_is_printed_alone(folder: Folder, database_environ: dict[str, str]) -> None:
    result = folder.run("invite", **database_environ, **INVITE)
    assert re.fullmatch(r"[\w-]{22}\n", result.stdout)
    assert result.stderr == ""
    public = {"MICROBLOG_PUBLIC_URL": "https://example.org", "MICROBLOG_PATH_PREFIX": "/blog"}
    link = folder.run("invite", "--expires", "2hours", **database_environ, **INVITE, **public).stdout
    assert re.fullmatch(r"https://example\.org/blog/auth/register\?invitation=[\w-]{22}\n", link)
    assert "MICROBLOG_REGISTRATION is open" in folder.run("invite", **database_environ).stderr
    assert "--expires must be" in folder.refused("invite", "--expires", "soon", **database_environ)


def test_invitation_registers_one_person(tmp_path: Path, folder: Folder, database_environ: dict[str, str]) -> None:
    environ = database_environ | INVITE
    with Server(tmp_path, environ=environ) as server:
        code = folder.run("invite", **environ).stdout.strip()
        fields = {"password": "a good password", "password2": "a good password", "invitation": code}
        statuses = []
        for name in ("invited1", "invited2"):
            with httpx.Client(base_url=server.url, headers={"Accept": "text/html"}, timeout=60) as client:
                token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/auth/register").text)
                assert token
                form = {"csrf_token": token[1], "username": name, **fields}
                statuses.append(client.post("/auth/register", data=form, headers={"Origin": server.url}).status_code)
        assert statuses == [303, 422]

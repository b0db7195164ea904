"""Files that hold secrets are for their owner alone, whatever the umask; no address is printed with its password."""

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from microblog_rt import files, secret_key
from microblog_rt.errors import Misconfigured
from microblog_rt.services import assemble
from microblog_rt.settings import Settings
from microblog_rt.storage import migrations
from tests.command_line import Folder
from tests.server_process import Server

ROOT = files.CHECKOUT
PASSWORD = "a-secret-of-postgresql"


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "microblog.db"


def settings_of(path: Path) -> Settings:
    return Settings(database_url=f"sqlite+aiosqlite:///{path}")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_server_creates_private_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Server(tmp_path) as server:
            server.person("alice").close()
            modes = {each.name: mode(each) for each in tmp_path.glob("microblog.db*")}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys([f"microblog.db{ending}" for ending in ("", "-shm", "-wal", ".key")], 0o600)


@pytest.mark.usefixtures("umask")
def test_new_database_and_key_are_private(path: Path) -> None:
    files.create_private_database(path)
    secret_key.secret_keys(settings_of(path))
    assert {each.name: mode(each) for each in path.parent.iterdir()} == {
        "microblog.db": 0o600,
        "microblog.db.key": 0o600,
    }


def test_an_existing_database_is_not_replaced(path: Path) -> None:
    path.write_text("content")
    files.create_private_database(path)
    assert path.read_text() == "content"


async def test_loose_files_are_corrected(path: Path) -> None:
    settings = settings_of(path)
    secret_key.secret_keys(settings)
    loose = [path.with_name(path.name + ending) for ending in ("", "-wal", "-shm", "-journal", ".key")]
    for each in loose:
        each.touch()
        each.chmod(0o644)
    await assemble(settings).close()
    secret_key.secret_keys(settings)
    assert [mode(each) for each in loose] == [0o600] * 5


def test_loose_file_of_another_user_is_refused_by_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch(0o644)
    path.chmod(0o644)

    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "chmod", forbidden)
    with pytest.raises(Misconfigured, match=re.escape(f"chmod 600 {path}")):
        assemble(settings_of(path))


def test_key_that_is_a_link_is_refused(path: Path) -> None:
    target = path.with_name("another")
    target.write_text("a-key-that-another-user-knows")
    target.chmod(0o600)
    path.with_name("microblog.db.key").symlink_to(target)
    with pytest.raises(Misconfigured, match=r"microblog\.db\.key is a link"):
        secret_key.secret_keys(settings_of(path))


def test_key_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret_key.secret_keys(settings_of(path))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(Misconfigured, match=r"microblog\.db\.key belongs to another user"):
        secret_key.secret_keys(settings_of(path))


@pytest.mark.parametrize("key", ["", "short", "a" * 40, "abcabcabcabcabcabcabc"])
def test_weak_key_is_refused(path: Path, key: str) -> None:
    kept = path.with_name("microblog.db.key")
    kept.write_text(key)
    kept.chmod(0o600)
    with pytest.raises(Misconfigured, match=r"microblog\.db\.key holds no key"):
        secret_key.secret_keys(settings_of(path))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql+asyncpg://db.example/blog?password={}"),
        ("DATABASE_URL", "postgresql+asyncpg://susan@db.example/blog?ssl=require&PASSWORD={}"),
        ("DATABASE_URL", "postgresql+asyncpg://db.example/blog?%70assword={}"),
        ("BUS_URL", "redis://127.0.0.1:6379/0?password={}"),
        ("BUS_URL", "postgresql://db.example/blog?password={}"),
    ],
)
def test_password_after_the_question_mark_is_refused_and_not_printed(tmp_path: Path, name: str, url: str) -> None:
    with pytest.raises(Misconfigured, match="before the @") as refused:
        Settings.from_environ({f"MICROBLOG_{name}": url.format(PASSWORD)})
    assert PASSWORD not in str(refused.value)


def test_password_of_an_unreachable_database_is_not_printed(tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://susan:{PASSWORD}@127.0.0.1:1/blog"
    assert PASSWORD not in Folder(tmp_path).refused("db", "current", MICROBLOG_DATABASE_URL=url)


@pytest.mark.parametrize(
    "name", [".env", "environment", "microblog.dump", "microblog.db.key", "microblog.db-wal", "copy.db"]
)
def test_private_files_are_ignored_by_git_and_docker(name: str) -> None:
    for each in (name, f"folder/{name}"):
        ignored = subprocess.run(["git", "check-ignore", "--no-index", "-q", each], cwd=ROOT, check=False)
        assert ignored.returncode == 0, each
    patterns = (ROOT / ".dockerignore").read_text().split()
    assert any(Path(f"/folder/{name}").match(pattern) for pattern in patterns)


def test_dumps_of_the_manual_are_made_under_a_private_umask() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    backup = manual[manual.index("\n## Backup") : manual.index("\n## Restore")]
    assert backup.index("    umask 077") < backup.index("pg_dump --format") < backup.index(".backup copy.db")


async def test_migrated_database_is_private(path: Path) -> None:
    before = os.umask(0)
    try:
        await asyncio.to_thread(migrations.upgrade, f"sqlite+aiosqlite:///{path}")
    finally:
        os.umask(before)
    assert mode(path) == 0o600

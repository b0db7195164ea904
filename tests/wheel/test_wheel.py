"""The built wheel, in an empty environment and an empty folder: what people really get."""

import os
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import httpx
import pytest

from microblog_rt import files
from tests.server_process import Server
from tests.services import BOUND
from tests.token_users import token_user

ROOT = files.CHECKOUT

pytestmark = pytest.mark.timeout(900)  # what it needs is fetched and installed first


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, in an environment that holds the wheel and what it needs, and nothing of this checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    trusting = ["env", "-u", "SSL_CERT_DIR"]  # the registry's certificate, unlike other tests
    pip = [*trusting, str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock")], check=True)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "check"], check=True)
    return folder / "bin" / "microblog-rt"


class InstalledServer(Server):
    """A server of the installed command, which cannot be forked from a process of this checkout."""

    def __init__(self, folder: Path, command: Path) -> None:
        super().__init__(folder)
        self.command = command

    def _launch(
        self, arguments: list[str], environ: dict[str, str], stdio: tuple[int, int, int]
    ) -> subprocess.Popen[bytes]:
        stdin, stdout, stderr = stdio
        command = [*BOUND, str(self.command), *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environ, stdin=stdin, stdout=stdout, stderr=stderr)


def test_the_wheel_holds_all_it_needs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for wanted in (
        "microblog_rt/static/rt/main.js",
        "microblog_rt/static/vendor/bootstrap/LICENSE",
        "microblog_rt/templates/base.html",
        "microblog_rt/migrations/env.py",
        "microblog_rt/migrations/versions/0001_the_first_tables.py",
        "microblog_rt/hypercorn.toml",
        "microblog_rt/openapi.json",
        "microblog_rt/translations/es/LC_MESSAGES/messages.mo",
        "microblog_rt/translations/zh_Hant/LC_MESSAGES/messages.mo",
    ):
        assert wanted in names
    assert [name for name in names if not name.startswith(("microblog_rt/", "microblog_rt-"))] == []
    assert [name for name in names if "__pycache__" in name or name.endswith(".db")] == []


def test_the_installed_command_serves_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    with InstalledServer(tmp_path, installed) as server:
        assert server.process is not None
        assert str(installed.parent) in Path(f"/proc/{server.process.pid}/cmdline").read_text()
        alice, bob = server.person("alice"), server.person("bob")
        alice.send("bob", "hello from a wheel")
        assert bob.client.get("/notifications").json()[0]["data"] == 1
        assert "hello from a wheel" in bob.client.get("/messages").text
        assert httpx.get(f"{server.url}/static/any/rt/main.js").status_code == 200
        assert "Iniciar" in httpx.get(f"{server.url}/auth/login", headers={"Accept-Language": "es"}).text
        alice.close()
        bob.close()
    assert server.logged() == ""
    assert sorted(each.name for each in tmp_path.iterdir()) == ["microblog.db", "microblog.db.key", "server.log"]


@pytest.mark.parametrize("words", [["db", "current"], ["user", "add", "susan"], ["--help"]])
def test_the_other_commands_work_there_too(installed: Path, tmp_path: Path, words: list[str]) -> None:
    result = subprocess.run(
        [installed, *words],
        cwd=tmp_path,
        input="a good password\n",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0
    assert [line for line in result.stderr.splitlines() if "microblog_rt.security" not in line] == []


CLIENT = """
import sys
from microblog_rt.client import SyncClient
with SyncClient(*sys.argv[1:]) as client:
    print(next(client.notifications()).data, client._client.status.transport)
"""


def test_the_client_subscribes_with_its_extra_alone(wheel: Path, installed: Path, tmp_path: Path) -> None:
    """Installed last, beside the server that it subscribes to, whose environment has nothing else of the extra."""
    python = str(installed.with_name("python"))
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True)
    assert "ModuleNotFoundError" in run([python, "-c", "import microblog_rt.client"]).stderr
    pip = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--upgrade-strategy",
        "only-if-needed",
    ]
    run([*pip, f"{wheel}[client]"], check=True)
    run([python, "-m", "pip", "check"], check=True)
    with InstalledServer(tmp_path, installed) as server:
        alice, bob = token_user(server), token_user(server)
        alice.send(bob, "hello")
        assert run([python, "-c", CLIENT, server.url, bob.token], check=True).stdout == "1 websocket\n"


def test_the_module_runs_like_the_command(installed: Path, tmp_path: Path) -> None:
    python = installed.with_name("python")
    result = subprocess.run([python, "-m", "microblog_rt", "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.startswith("microblog-rt, version ")

"""The documentation: links, cited files and tests, settings, and the commands in its code blocks."""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from microblog_rt import files, settings

ROOT = files.CHECKOUT
COMMAND = f"{sys.executable} -m microblog_rt"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))

LINK = re.compile(r"\]\(([^)\s]+)\)")
CITED_TEST = re.compile(r"\b(tests/[\w/]+\.py)::(\w+)")
CITED_PATH = re.compile(r"`((?:src|tests|static|templates|alembic|docs|deploy|benchmarks)/[\w./-]*)(?: [^`]*)?`")
CITED_MODULE = re.compile(r"python -m ((?:tests|benchmarks)[\w.]*)")

# The first words of command lines that a test does not run, and why.
NOT_RUN = {
    "make": "installs packages and runs this suite; each target is checked for existence",
    "sudo": "changes the machine",
    "run": "a shell function that calls sudo",
    "redis-cli": "needs the Redis server of the set-up",
    "docker": "needs a Docker daemon",
    "umask": "changes the shell only",
    "sqlite3": "a command of Debian's package sqlite3, which the page names",
    "curl": "asks a server that the page has set up; those of the README are run",
    "database_password=$(openssl": "input of the commands that follow, which use sudo",
    "redis_password=$(openssl": "input of the commands that follow, which use sudo",
    "hba=$(sudo": "changes the machine",
    "echo": "input of sudo",
    "printf": "input of sudo, or the settings of compose",
    "sed": "changes files of the set-up",
    "chmod": "follows a command that is not run",
    "rm": "follows a command that is not run",
    "/opt/microblog-rt/bin/pip": "follows a command that uses sudo",
}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 700


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_internal_links_resolve(page: Path) -> None:
    for target in LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


def test_every_page_is_linked() -> None:
    linked = {(page.parent / each.partition("#")[0]).resolve() for page in PAGES for each in LINK.findall(_prose(page))}
    assert [page.name for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in linked] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_cited_files_exist(page: Path) -> None:
    text = page.read_text()
    assert [path for path in CITED_PATH.findall(text) if not (ROOT / path).exists()] == []
    modules = [ROOT / module.replace(".", "/") for module in CITED_MODULE.findall(text)]
    assert [path for path in modules if not path.is_dir() and not path.with_suffix(".py").exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_cited_tests_exist(page: Path) -> None:
    cited = CITED_TEST.findall(page.read_text())
    assert [f"{path}::{name}" for path, name in cited if name not in _functions(path)] == []
    assert cited or page.name != "protocol.md"


def test_asvs_table_lists_every_requirement_once() -> None:
    """Of levels 1 and 2 of version 5.0; level 1 has no gap."""
    rows = re.findall(r"^\| ([\d., ]+) \| (\S+)", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
    listed = [(number, state) for numbers, state in rows for number in numbers.split(", ")]
    assert len(listed) == len(dict(listed)) == 253
    assert {state for _, state in listed} == {"met", "gap", "operator", "n/a"}


def test_settings_page_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `MICROBLOG_(\w+)` \| (\S+) \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert sorted(name.lower() for name, _ in rows) == sorted(settings.PARSERS)
    defaults = settings.Settings()
    for name, shown in rows:
        default = getattr(defaults, name.lower())
        assert default in (None, "") if shown == "unset" else _parsed(name.lower(), shown) == default, name


def test_documented_settings_exist() -> None:
    known = {f"{settings.PREFIX}{name.upper()}" for name in [*settings.PARSERS, *settings.CLIENT]}
    for page in PAGES:
        assert set(re.findall(r"MICROBLOG_[A-Z_]*[A-Z]", page.read_text())) <= known, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_run_or_listed(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in _shell_blocks(page):
        if page.name == "README.md" and ("Bearer" in block or "microblog-rt serve" in block):
            continue  # the two tests below
        if page.name in ("clients.md", "flask_microblog.md"):
            continue  # tests/test_docs_clients.py, tests/test_flask_microblog_recipe.py
        for command in _commands(block):
            word = command.split()[0]
            assert word in NOT_RUN, command
            if word == "make":
                assert command.split()[1] in targets, command


def test_readme_subscribes_to_a_demo_server(demo: tuple[str, Path]) -> None:
    """The README's script, with this server's address, and a notification to print."""
    url, folder = demo
    (script,) = [block for block in _shell_blocks(ROOT / "README.md") if "Bearer" in block]
    script = script.replace("http://127.0.0.1:8000", url).replace(".venv/bin/microblog-rt", COMMAND)
    script = f"{COMMAND} notify bob ci '{{}}'\n{script}"
    with subprocess.Popen(["bash", "-euc", script], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        (line,) = itertools.islice((each for each in process.stdout if each.startswith('{"name": "ci"')), 1)
        process.terminate()
    assert '"data": {}' in line


def test_readme_serves_from_an_empty_folder(tmp_path: Path) -> None:
    """``serve`` as the README shows it; the wheel itself is tested in tests/wheel."""
    (block,) = [block for block in _shell_blocks(ROOT / "README.md") if "microblog-rt serve" in block]
    command = _commands(block)[-1].split()
    assert Path(command[0]).name == "microblog-rt"
    with Serving([*command[1:], "--bind", "127.0.0.1:0"], tmp_path):
        assert (tmp_path / "microblog.db").exists()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A demo server: its URL and its folder."""
    folder = tmp_path / "server"
    folder.mkdir()
    with Serving(["serve", "--demo", "--bind", "127.0.0.1:0"], folder, "demo-") as output:
        url = re.search(r"http://[\d.]+:\d+", output)
        assert url, output
        yield url[0], folder


class Serving:
    """Run the command ``microblog-rt`` in a folder; entering returns its output up to the text ``until``."""

    def __init__(self, arguments: list[str], folder: Path, until: str = "http://") -> None:
        self._arguments, self._folder, self._until = arguments, folder, until

    def __enter__(self) -> str:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(settings.PREFIX)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "microblog_rt", *self._arguments],
            cwd=self._folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if self._until in line:
                return "".join(lines)
        raise AssertionError("".join(lines))

    def __exit__(self, *_: Any) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


def test_shell_blocks_parse() -> None:
    """Every block is valid shell, so that it can be typed as it stands."""
    bash = shutil.which("bash")
    assert bash
    for page in PAGES:
        for block in _shell_blocks(page):
            result = subprocess.run([bash, "-n"], input=block, capture_output=True, text=True)
            assert result.returncode == 0, (page.name, block, result.stderr)


def _shell_blocks(page: Path) -> list[str]:
    """The indented and fenced blocks of a page that are commands, and not diagrams or configuration files."""
    text = page.read_text()
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for match in re.finditer(r"(?:\A|\n\n)((?: {4,}\S.*\n(?:\n(?= {4}))?)+)", text):
        blocks.append(match[1])
    return [block for block in map(_dedent, blocks) if _is_shell(block)]


def _is_shell(block: str) -> bool:
    if "scrape_configs:" in block:
        return False
    first = block.lstrip().split()[0]
    return first in NOT_RUN or first.startswith(("URL=", "/", "microblog-rt")) or first == "run()"


def _dedent(block: str) -> str:
    margin = min(len(line) - len(line.lstrip()) for line in block.splitlines() if line.strip())
    return "".join(line[margin:] + "\n" for line in block.splitlines())


def _commands(block: str) -> list[str]:
    """The command lines of a block, without here-documents, function bodies and continued lines."""
    block = re.sub(r"<<(\w+)\n.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL)
    block = re.sub(r"^\w+\(\) \{\n.*?^\}$", "", block, flags=re.MULTILINE | re.DOTALL)
    lines = block.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _prose(page: Path) -> str:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


@cache
def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@cache
def _functions(path: str) -> set[str]:
    """The names of the functions in a file of the repository, methods included; empty if there is no such file."""
    file = ROOT / path
    if not file.exists():
        return set()
    nodes = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _parsed(name: str, shown: str) -> Any:
    return settings.PARSERS[name](shown.strip("`"))

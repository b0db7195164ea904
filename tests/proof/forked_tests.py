"""Our tests with a planted bug, in a process forked from one that has the dependencies loaded.

Forked, because importing the dependencies takes longer than a named test does. The process that is forked must not
import the product before the bug is planted. See also: ``planted.py``.
"""

import os
import sys
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
TIMEOUT = 500  # seconds, for all tests of one run
LOADED = [
    *("pytest", "quart", "quart_auth", "wtforms", "hypercorn.asyncio", "sqlalchemy.ext.asyncio"),
    *("aiosqlite", "alembic.command", "argon2", "zxcvbn", "redis.asyncio", "httpx", "hypothesis", "asyncpg"),
]
# Only the plugins that the tests need.
OPTIONS = ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider", "--timeout=120"]

forks = get_context("forkserver")
forks.set_forkserver_preload(LOADED)


class Outcome(NamedTuple):
    """The result of one test: "passed", "failure", or "error" if it could not be run."""

    test: str
    kind: str
    message: str


def run(folder: Path, tests: Iterable[str], plant: str | None = None) -> list[Outcome]:
    """Run ``tests`` with the bug ``plant``, reporting into ``folder``; the result of each."""
    process = forks.Process(target=_run, args=(folder, list(tests), plant))
    process.start()
    process.join(TIMEOUT)
    process.kill()  # if it has not ended
    process.join()
    assert process.exitcode in (0, 1), _output(folder).read_text()  # else pytest itself failed
    assert _report(folder).exists(), _output(folder).read_text()
    return [_outcome(case) for case in ElementTree.parse(_report(folder)).iter("testcase")]  # noqa: S314 # it is ours


def _run(folder: Path, tests: list[str], plant: str | None) -> None:
    output = os.open(_output(folder), os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]  # meant for the parent pytest
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
    assert "microblog_rt" not in sys.modules
    if plant is not None:
        from tests.proof import planted

        os.environ |= planted.environment(plant, ROOT / "src")  # for the servers that tests start
        planted.apply(plant)

    import pytest

    os.chdir(ROOT)
    reports = [f"--basetemp={folder / 'tests'}", f"--junit-xml={_report(folder)}"]
    sys.exit(pytest.main([*OPTIONS, *reports, *tests]))


def _output(folder: Path) -> Path:
    return folder / "output.txt"


def _report(folder: Path) -> Path:
    return folder / "report.xml"


def _outcome(case: ElementTree.Element) -> Outcome:
    test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
    for problem in case:
        return Outcome(test, problem.tag, problem.get("message", ""))
    return Outcome(test, "passed", "")

"""Our tests on another build of the product, in a process of their own that is forked from one with all else loaded.

Forked, because to load what the product stands on takes longer than a named test does. Not here: the builds
(``planted.py``). The product must not be imported here: it would be ours, and not that of the build.
"""

import os
import sys
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
PATIENCE = 500  # seconds, for all tests on one build
LOADED = [
    *("pytest", "quart", "quart_auth", "quart_babel", "wtforms", "hypercorn.asyncio", "sqlalchemy.ext.asyncio"),
    *("aiosqlite", "alembic.command", "argon2", "zxcvbn", "redis.asyncio", "httpx", "hypothesis", "asyncpg"),
]
# Those plugins alone that the tests need.
OPTIONS = ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider", "--timeout=120"]

forks = get_context("forkserver")
forks.set_forkserver_preload(LOADED)


class Outcome(NamedTuple):
    """What became of one test: "passed", or how it failed (``failure``) or could not be run (``error``)."""

    test: str
    kind: str
    message: str


def run(build: Path, tests: Iterable[str]) -> list[Outcome]:
    """Run those tests of ours on the product in ``build``; what became of each."""
    process = forks.Process(target=_run, args=(build, list(tests)))
    process.start()
    process.join(PATIENCE)
    process.kill()  # if it has not ended
    process.join()
    assert process.exitcode in (0, 1), _said(build).read_text()  # else pytest itself is in trouble
    assert _report(build).exists(), _said(build).read_text()
    return [_outcome(case) for case in ElementTree.parse(_report(build)).iter("testcase")]  # noqa: S314 # it is ours


def _run(build: Path, tests: list[str]) -> None:
    said = os.open(_said(build), os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(said, stream)
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]  # it is for the other pytest
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ["PYTHONPATH"] = str(build / "src")  # for the servers that tests start
    sys.path.insert(0, str(build / "src"))
    assert "microblog_rt" not in sys.modules

    import pytest

    os.chdir(ROOT)
    where = [f"--basetemp={build / 'tests'}", f"--junit-xml={_report(build)}"]
    sys.exit(pytest.main([*OPTIONS, *where, *tests]))


def _said(build: Path) -> Path:
    return build / "said.txt"


def _report(build: Path) -> Path:
    return build / "report.xml"


def _outcome(case: ElementTree.Element) -> Outcome:
    test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
    for trouble in case:
        return Outcome(test, trouble.tag, trouble.get("message", ""))
    return Outcome(test, "passed", "")

"""Every package that the code imports is declared in ``pyproject.toml``."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from microblog_rt import files

OURS = {"microblog_rt", "tests", "benchmarks"}
# Where the extra ``bench`` is not installed, the name of a package does not tell its distribution.
DISTRIBUTIONS = {"socketio": ["python-socketio"]}


def imported(*folders: str) -> dict[str, Path]:
    """The top-level packages that the folders' modules import, each with one module that does."""
    modules = [path for folder in folders for path in sorted((files.CHECKOUT / folder).rglob("*.py"))]
    assert modules
    return {name: path for path in modules for name in names(path.read_text())}


def names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [str(node.module)]
        else:
            continue
        for module in modules:
            package = module.partition(".")[0]
            if package not in OURS | sys.stdlib_module_names:
                yield package


def declared(*extras: str) -> set[str]:
    """The normalised names of the distributions declared for a run, and for those extras."""
    project = tomllib.loads((files.CHECKOUT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return {normalised(re.split(r"[^\w.-]", requirement)[0]) for each in lists for requirement in each}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def undeclared(packages: dict[str, Path], known: set[str]) -> list[str]:
    distributions = packages_distributions()
    return [
        f"{package} ({path})"
        for package, path in packages.items()
        if not {normalised(each) for each in distributions.get(package, DISTRIBUTIONS.get(package, [package]))} & known
    ]


EXTRAS = ["postgres", "redis", "fast", "client", "jwt", "webhooks", "mail"]


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (["src"], EXTRAS),
        (["tests", "benchmarks", "alembic"], [*EXTRAS, "dev", "bench"]),
    ],
)
def test_every_imported_package_is_declared(folders: list[str], extras: list[str]) -> None:
    assert undeclared(imported(*folders), declared(*extras)) == []


def test_an_undeclared_import_is_reported() -> None:
    packages = dict.fromkeys(names("import h11, json\nfrom argon2.exceptions import VerifyMismatchError"), Path("x.py"))
    assert list(packages) == ["h11", "argon2"]
    assert undeclared(packages, {"argon2-cffi"}) == ["h11 (x.py)"]
    assert undeclared(packages, {"argon2-cffi", "h11"}) == []

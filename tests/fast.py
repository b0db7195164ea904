"""Which tests ``pytest --fast`` runs: those that start no other process and no long search, on SQLite alone.

A test starts processes when its module, or a test helper that the module uses, imports one of ``STARTERS``, or when
one of its fixtures returns an object of theirs. A new test therefore needs no entry in a list.
"""

import sys
from functools import cache
from types import ModuleType

import pytest

STARTERS = (
    "subprocess",
    "tests.server_process",
    "tests.http_client",
    "tests.services",
    "playwright",
    "multiprocessing",
)
# Searches over many cases, and tests of time-outs: tens of seconds each.
SLOW = (
    "tests.test_histories",
    "tests.test_interleavings",
    "tests.test_limits",
    "tests.test_peers",
    "tests.test_rfc6455",
    "tests.test_silence",
    "tests.test_stalled",
    "tests.web.test_writes",
)
SHARED = "tests.conftest"  # its fixtures are judged by their return types


def split(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The fast tests, and the others."""
    slow = [item for item in items if is_slow(item)]
    return [item for item in items if item not in set(slow)], slow


def is_slow(item: pytest.Item) -> bool:
    """Whether ``--fast`` leaves this test out."""
    assert isinstance(item, pytest.Function)
    module = item.module.__name__
    return (
        module in SLOW
        or _module_starts(module)
        or any(
            starter in str(fixture.func.__annotations__.get("return", ""))
            for fixtures in item._fixtureinfo.name2fixturedefs.values()
            for fixture in fixtures[-1:]
            for starter in STARTERS
        )
    )


@cache
def _module_starts(name: str) -> bool:
    """Whether the objects in that module's namespace come from ``STARTERS``, directly or through other helpers."""
    if _is_starter(name):
        return True
    if name == SHARED or not name.startswith("tests.") or name not in sys.modules:
        return False
    return any(_module_starts(origin) for origin in _origins(sys.modules[name]) - {name})


def _origins(module: ModuleType) -> set[str]:
    values = list(vars(module).values())
    return {
        value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", "")) for value in values
    }


def _is_starter(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in STARTERS)

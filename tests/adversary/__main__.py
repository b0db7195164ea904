"""Every attack of the tests, on the server alone and behind nginx: ``python -m tests.adversary [OPTION OF PYTEST]``."""

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ATTACKS = (
    *("adversary", "test_floods.py", "test_fuzz.py", "test_hostile.py", "test_limits.py", "test_nginx.py"),
    *(
        "test_openapi.py",
        "test_origins.py",
        "test_replays.py",
        "test_rfc6455.py",
        "test_stalled.py",
        "web/test_writes.py",
    ),
)

if __name__ == "__main__":
    sys.exit(pytest.main([*(str(TESTS / each) for each in ATTACKS), *sys.argv[1:]]))

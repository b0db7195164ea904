"""Ended, tampered and expired credentials are accepted nowhere; an ended one is closed at once. Short form."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import replays
from tests.server_process import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, environ=replays.ENVIRON) as server:
        yield server
    assert server.warnings_logged() == []


async def test_no_replay_is_accepted(server: Server) -> None:
    assert await replays.replay(server, 200) == {}


async def test_ended_credential_is_closed_within_a_second(server: Server) -> None:
    took = await replays.revoke(server, 15)
    assert max(took) < 1

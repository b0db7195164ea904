"""Connections that read from SQLite: what is opened is closed."""

import gc

import pytest

from microblog_rt.settings import Settings
from microblog_rt.storage import sqlite
from tests.server_process import DEADLINE

pytestmark = pytest.mark.sqlite


async def test_dropped_connection_is_closed(settings: Settings) -> None:
    """As when a request is cancelled before the pool has the connection. A warning would fail the test."""
    connection = await sqlite._creator(settings.database_url, DEADLINE)()
    await connection._execute(int)  # as SQLAlchemy's preparation, which refers to the opened connection only
    thread = connection._thread
    del connection
    gc.collect()
    thread.join(DEADLINE)
    assert not thread.is_alive()

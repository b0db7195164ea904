"""``microblog_rt.asgi:app``, as another ASGI server would run it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from microblog_rt.asgi import LazyApp
from microblog_rt.errors import Misconfigured
from tests.conftest import KEY


async def lifespan(app: LazyApp) -> list[str]:
    """Start ``app`` and shut it down; return the types of its answers and the messages of those that failed."""
    requests: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answers: list[str] = []

    async def send(message: Any) -> None:
        answers.append(message["type"] + message.get("message", ""))

    await requests.put({"type": "lifespan.startup"})
    await requests.put({"type": "lifespan.shutdown"})
    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, requests.get, send)
    return answers


async def test_starts_inside_a_running_loop(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROBLOG_DATABASE_URL", database)
    monkeypatch.setenv("MICROBLOG_SECRET_KEY", KEY)
    assert await lifespan(LazyApp()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_creation_reads_nothing_and_start_names_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROBLOG_SWEEP", "never")
    app = LazyApp()
    (failed,) = await lifespan(app)
    assert failed.startswith("lifespan.startup.failed")
    assert "MICROBLOG_SWEEP" in failed
    monkeypatch.delenv("MICROBLOG_SWEEP")
    (failed,) = await lifespan(app)
    assert "microblog-rt db upgrade" in failed
    with pytest.raises(Misconfigured, match="lifespan"):
        await app({"type": "http"}, asyncio.Event().wait, lambda _: asyncio.sleep(0))
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240

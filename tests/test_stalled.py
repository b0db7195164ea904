"""Clients that never read do not affect others: the short form of ``python -m benchmarks stalled`` (I6, I9)."""

import asyncio
import time
from typing import Any, cast

import pytest
from benchmarks import stalled, tabs, world

from microblog_rt.push import edge
from microblog_rt.push.tab import Tab
from microblog_rt.timeouts import Timeouts
from tests.asgi_server import Application, serving
from tests.server_process import DEADLINE
from tests.timing import LoadMonitor

PLAN = stalled.Plan(stalled=20, users=3, tabs_each=10, before=200, updates=1_000)
GROWTH = 10.0  # MiB; 20 connections, and a thousand messages
PROMPTLY = 1.0  # seconds; a tab that waited for a stalled one would take ten


def test_stalled_readers_are_closed_and_others_served(
    monkeypatch: pytest.MonkeyPatch, load_monitor: LoadMonitor
) -> None:
    """Everything sent to the other tabs has arrived and they are still open, or the benchmark would fail."""
    monkeypatch.setattr(world, "SUBSCRIBERS", 1 + PLAN.users)
    monkeypatch.setattr(world, "ABSENT", 0)
    monkeypatch.setattr(world, "SENDERS", stalled.SENDERS)
    with world.world() as people, people.serving() as (server, _):
        start = time.time()
        outcome = asyncio.run(stalled.measured(server, people, PLAN))
        assert outcome.gone < stalled.CLOSED
        assert outcome.growth < GROWTH
        assert outcome.beside < load_monitor.allows(PROMPTLY, start)
        assert server.stop() == 0
        assert server.logged() == ""


async def test_benchmark_tabs_answer_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a server would close them after half a minute without heartbeats."""
    answered = asyncio.Event()

    class Pinging(Tab):
        def data_received(self, data: bytes) -> None:
            if self._pinged:
                answered.set()
            super().data_received(data)

    monkeypatch.setattr(edge, "Tab", Pinging)
    quiet = tabs.OURS._replace(replies={})  # a tab that acknowledges heartbeats is never silent
    patience = Timeouts(websocket_silence=0.05, websocket_pong=DEADLINE)
    async with serving(Application(), patience, heartbeat=0.1) as it:
        server = cast(Any, type("Server", (), {"port": it.port}))
        async with tabs.tabs(server, ["x=y"], tabs.FrameCounter(quiet)):
            async with asyncio.timeout(DEADLINE):
                await answered.wait()

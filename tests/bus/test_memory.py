"""The bus of a single process."""

import asyncio

import pytest

from microblog_rt.bus import connect
from tests.buses import running, signal


async def test_memory_bus_is_connected_and_receives_nothing() -> None:
    bus = connect("memory://")
    assert bus.connected.is_set()
    assert bus.health() == ("memory", "single_process", None)
    events = bus.events()
    async with running(anext(events)) as first:
        bus.publish(signal(1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.shield(first)
    await events.aclose()
    await bus.close()

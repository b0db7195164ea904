"""Heartbeats that are lost, late or received, and tasks that run while a connection is open."""

import asyncio
import time

import pytest

from microblog_rt.bus.heartbeat import Heartbeat, background_tasks
from microblog_rt.timeouts import Timeouts

TIMEOUTS = Timeouts(heartbeat_interval=0.01, heartbeat_lost=0.05)


class Sender:
    """Counts the heartbeats it was asked to send; ``reached`` is set at the count ``wanted``. None is received."""

    def __init__(self, wanted: int) -> None:
        self.sent = 0
        self.wanted = wanted
        self.reached = asyncio.Event()

    async def send(self) -> None:
        self.sent += 1
        if self.sent == self.wanted:
            self.reached.set()


async def test_lost_heartbeats_fail_the_check() -> None:
    heartbeat, sender = Heartbeat(TIMEOUTS), Sender(6)
    async with background_tasks(heartbeat.run(sender.send)):
        heartbeat.check()
        await sender.reached.wait()
        with pytest.raises(TimeoutError, match=r"no heartbeat received for 0\.05 seconds"):
            heartbeat.check()
        heartbeat.received()
        heartbeat.check()


async def test_suspended_process_passes_the_check() -> None:
    heartbeat, sender = Heartbeat(TIMEOUTS), Sender(2)
    async with background_tasks(heartbeat.run(sender.send)):
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251
        await sender.reached.wait()
        assert sender.sent == 2
        heartbeat.check()


async def test_failed_background_task_raises_from_check() -> None:
    async def fail() -> None:
        raise ConnectionError("unavailable")

    async with background_tasks(Heartbeat(TIMEOUTS).run(fail)) as check:
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError, match="unavailable"):
            check()


def test_age_of_the_last_heartbeat() -> None:
    heartbeat = Heartbeat(TIMEOUTS)
    assert heartbeat.seconds_ago() is None
    begun = time.monotonic()
    heartbeat.received()
    ago = heartbeat.seconds_ago()
    assert ago is not None
    assert 0 <= ago <= time.monotonic() - begun

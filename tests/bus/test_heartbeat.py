"""Whether a process hears itself."""

import asyncio
import time

import pytest

from microblog_rt.bus import heartbeat
from microblog_rt.bus.alongside import alongside
from microblog_rt.bus.heartbeat import Heartbeat


class Heart:
    """Sends heartbeats that nobody hears, and notes when there were so many."""

    def __init__(self, wanted: int) -> None:
        self.beats = 0
        self.wanted = wanted
        self.reached = asyncio.Event()

    async def beat(self) -> None:
        self.beats += 1
        if self.beats == self.wanted:
            self.reached.set()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    monkeypatch.setattr(heartbeat, "DEAF", 0.05)


async def test_who_sends_in_vain_for_too_long_is_deaf() -> None:
    mine, heart = Heartbeat(), Heart(6)
    async with alongside(mine.keep(heart.beat)):
        mine.check()
        await heart.reached.wait()
        with pytest.raises(TimeoutError, match=r"no heartbeat has come back for 0\.05 seconds"):
            mine.check()
        mine.heard()
        mine.check()


async def test_who_was_stopped_for_long_is_not_deaf_when_he_goes_on() -> None:
    mine, heart = Heartbeat(), Heart(2)
    async with alongside(mine.keep(heart.beat)):
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251
        await heart.reached.wait()
        assert heart.beats == 2
        mine.check()


async def test_a_heart_that_fails_says_so_to_whoever_checks() -> None:
    async def fail() -> None:
        raise ConnectionError("away")

    async with alongside(Heartbeat().keep(fail)) as check:
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError, match="away"):
            check()


def test_how_long_ago_it_was() -> None:
    mine = Heartbeat()
    assert mine.ago() is None
    begun = time.monotonic()
    mine.heard()
    ago = mine.ago()
    assert ago is not None
    assert 0 <= ago <= time.monotonic() - begun

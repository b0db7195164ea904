"""The timer wheel: order, resolution, failing deadlines, and its end."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from microblog_rt.push.wheel import RESOLUTION, Wheel

DEADLINE = 30.0


class Timed:
    """Records when it is called; ``then`` runs in the call."""

    def __init__(self, calls: list[tuple[str, float]], name: str = "", then: Callable[[], None] = lambda: None) -> None:
        self.calls = calls
        self.name = name
        self.then = then

    def due(self, now: float) -> None:
        self.calls.append((self.name, now))
        self.then()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


async def test_deadlines_are_called_in_order_and_never_early() -> None:
    wheel, calls = Wheel(), list[tuple[str, float]]()
    start = asyncio.get_running_loop().time()
    delays = {"third": 0.21, "first": 0.01, "second": 0.11, "past": -5.0}
    for name, delay in delays.items():
        wheel.at(start + delay, Timed(calls, name))
    await until(lambda: len(calls) == 4)
    assert [name for name, _ in calls] == ["past", "first", "second", "third"]
    for name, now in calls:
        assert now >= start + delays[name]


async def test_deadline_is_at_most_one_slot_late(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    real = loop.call_at

    def call_at(when: float, *arguments: Any, **named: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return real(when, *arguments, **named)

    monkeypatch.setattr(loop, "call_at", call_at)
    wheel, calls = Wheel(), list[tuple[str, float]]()
    when = loop.time() + 0.101
    wheel.at(when, Timed(calls))
    assert when <= timers[-1] < when + RESOLUTION
    wheel.at(timers[-1] - RESOLUTION / 2, Timed(calls))
    assert len(timers) == 1, "deadlines of one slot share a timer"
    wheel.at(when + 3600, Timed(calls))
    assert len(timers) == 1, "a later deadline needs no timer yet"
    await until(lambda: len(calls) == 2)
    assert calls[0][1] == calls[1][1]
    wheel.close()


async def test_earlier_deadline_moves_the_timer() -> None:
    wheel, calls = Wheel(), list[tuple[str, float]]()
    start = asyncio.get_running_loop().time()
    wheel.at(start + 3600, Timed(calls, "later"))
    wheel.at(start + 0.01, Timed(calls, "sooner"))
    await until(lambda: calls != [])
    assert [name for name, _ in calls] == ["sooner"]
    wheel.close()


async def test_failing_deadline_is_logged_and_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    wheel, calls = Wheel(), list[tuple[str, float]]()
    now = asyncio.get_running_loop().time()

    def fail() -> None:
        raise RuntimeError("a bug")

    for name, delay in {"before": 0.0, "fails": 0.0, "same slot": 0.0, "next slot": RESOLUTION}.items():
        wheel.at(now + delay, Timed(calls, name, fail if name == "fails" else lambda: None))
    await until(lambda: len(calls) == 4)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["deadline failed"]


async def test_deadline_set_by_a_deadline_is_called() -> None:
    """Also one in the slot that is being called, and one far away beside it."""
    wheel, calls = Wheel(), list[tuple[str, float]]()
    loop = asyncio.get_running_loop()

    def again() -> None:
        wheel.at(loop.time() + 0.06, Timed(calls, "soon"))
        wheel.at(loop.time() - 1, Timed(calls, "at once"))

    wheel.at(loop.time(), Timed(calls, "first", again))
    await until(lambda: len(calls) == 3)
    assert [name for name, _ in calls] == ["first", "at once", "soon"]


async def test_closed_wheel_calls_nothing() -> None:
    wheel, calls = Wheel(), list[tuple[str, float]]()
    loop = asyncio.get_running_loop()
    start = loop.time()
    wheel.at(start + 0.01, Timed(calls))
    wheel.close()
    wheel.at(start + 0.01, Timed(calls, "after the close"))
    other = Wheel()
    passed: list[tuple[str, float]] = []
    other.at(start + 0.01 + RESOLUTION, Timed(passed))
    await until(lambda: passed != [])
    assert calls == []


async def test_wheel_that_is_not_used_can_be_closed() -> None:
    Wheel().close()
